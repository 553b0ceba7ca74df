import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.core.events import name_parts
from dcase_seld.corpus.layout import index_corpus

NAME = "fold3_room4_mix001_deg090_start0012"
OTHER = "fold4_room15_mix012_deg179_start2495"


def corpus(root, *files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def complete(root):
    return corpus(
        root,
        f"stereo_dev/dev-train-tau/{NAME}.wav",
        f"metadata_dev/dev-train-tau/{NAME}.csv",
        f"video_dev/dev-train-tau/{NAME}.mp4",
        f"stereo_dev/dev-test-sony/{OTHER}.wav",
        f"metadata_dev/dev-test-sony/{OTHER}.csv",
        f"video_dev/dev-test-sony/{OTHER}.mp4",
        "stereo_eval/eval/sample7.wav",
        "video_eval/eval/sample7.mp4",
    )


def kinds(index):
    return sorted(problem.kind for problem in index.problems)


def test_files_of_one_clip_are_paired_and_a_complete_corpus_has_no_problem(tmp_path):
    index = index_corpus(complete(tmp_path))
    assert [(clip.part, clip.name) for clip in index.clips] == [
        ("dev-test-sony", OTHER), ("dev-train-tau", NAME), ("eval", "sample7")
    ]  # fmt: skip
    assert index.problems == ()
    clip, evaluation = index.clips[1:]
    assert clip.labels == tmp_path / "metadata_dev" / "dev-train-tau" / f"{NAME}.csv"
    assert clip.video.suffix == ".mp4" and clip.audio.suffix == ".wav" and evaluation.labels is None


@pytest.mark.parametrize(
    ("lost", "kind"),
    [("stereo_dev", "missing-audio"), ("metadata_dev", "missing-labels"), ("video_dev", "missing-video")],
)
def test_a_missing_file_is_named(tmp_path, lost, kind):
    complete(tmp_path)
    next((tmp_path / lost / "dev-train-tau").iterdir()).unlink()
    extra = NAME.replace("deg090", "deg091")
    others = {"stereo_dev": "wav", "metadata_dev": "csv", "video_dev": "mp4"}
    corpus(tmp_path, *(f"{folder}/dev-train-tau/{extra}.{suffix}" for folder, suffix in others.items()))
    (problem,) = index_corpus(tmp_path).problems
    assert problem.kind == kind and NAME in problem.text


def test_a_corpus_without_any_video_or_labels_is_an_unlabelled_audio_corpus(tmp_path):
    index = index_corpus(corpus(tmp_path, "stereo_eval/eval/sample1.wav", "stereo_eval/eval/sample2.wav"))
    assert index.problems == () and [clip.labels for clip in index.clips] == [None, None]


def test_broken_things_are_listed_all_at_once(tmp_path):
    complete(tmp_path)
    corpus(
        tmp_path,
        f"stereo_dev/dev-train-sony/{NAME}.wav",
        f"metadata_dev/dev-train-sony/{NAME}.csv",
        f"video_dev/dev-train-sony/{NAME}.mp4",
        "stereo_dev/dev-train-tau/talk.wav",
        "metadata_dev/dev-train-tau/talk.csv",
        "video_dev/dev-train-tau/talk.mp4",
        "stereo_dev/dev-train-tau/readme.txt",
        "stereo_dev/loose.wav",
        "stereo_dev/dev-train-tau/.DS_Store",
    )
    (tmp_path / f"stereo_dev/dev-test-sony/{OTHER}.wav").write_bytes(b"")
    index = index_corpus(tmp_path)
    assert kinds(index) == ["duplicate", "empty-file", "name", "stray-file", "stray-file"]
    text = "\n".join(problem.text for problem in index.problems)
    assert "readme.txt" in text and "loose.wav" in text and "talk" in text


def test_an_unreadable_file_is_a_problem_not_a_crash(tmp_path):
    complete(tmp_path)
    (tmp_path / f"stereo_dev/dev-train-tau/{NAME}.wav").unlink()
    (tmp_path / f"stereo_dev/dev-train-tau/{NAME}.wav").symlink_to(tmp_path / "gone.wav")
    assert kinds(index_corpus(tmp_path)) == ["missing-audio", "unreadable"]


def test_no_corpus_at_all_is_refused(tmp_path):
    with pytest.raises(SeldError, match="not a folder"):
        index_corpus(tmp_path / "nowhere")
    with pytest.raises(SeldError, match="official layout"):
        index_corpus(tmp_path)


def test_names_tell_fold_room_recording_angle_and_start():
    parts = name_parts(OTHER)
    assert (parts.fold, parts.room, parts.mix, parts.angle_deg, parts.start) == (4, 15, 12, 179, 2495)
    assert parts.recording == "fold4_room15_mix012"
    assert name_parts("sample0001") is None and name_parts(OTHER + "_x") is None
