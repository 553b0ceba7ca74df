import itertools

import numpy as np
import pytest
import soundfile as sf

from dcase_seld.core.classes import DCASE2025, Taxonomy
from dcase_seld.core.errors import SeldError
from dcase_seld.media.audio import write_wav
from dcase_seld.simulate import sound_bank
from dcase_seld.simulate.config import ClipCounts, SoundsConfig
from dcase_seld.simulate.folder_bank import folder_bank
from dcase_seld.simulate.sound_bank import SOURCES, ambience_bank, make, procedural_bank
from dcase_seld.stages.data import SimulateConfig

FOUR = Taxonomy("four", ("Dog", "Siren", "Speech", "Rain"), ("dog", "siren", "speech", "rain"))


def put(folder, *names, rate=24000, seconds=0.2):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        wave = np.sin(np.arange(int(rate * seconds)) * 0.01 * (number + 1)).astype(np.float32)[None]
        write_wav(folder / name, 0.5 * wave, rate)


def splits_by_group(bank):
    table = {}
    for recording in bank.recordings:
        table.setdefault(recording.group, set()).add(recording.split)
    return table


@pytest.mark.parametrize("folder", SOURCES)
def test_every_procedural_source_makes_different_finite_recordings(folder):
    made = [make(folder, 3, number) for number in range(4)]
    for sound in made:
        assert 0.3 < len(sound) / 24000 < 12 and np.isfinite(sound).all()
        assert np.abs(sound).max() == pytest.approx(1.0)
    np.testing.assert_array_equal(made[0], make(folder, 3, 0))
    assert len({len(sound) for sound in made}) > 1 or not np.array_equal(made[0], made[1])
    assert not np.array_equal(make(folder, 4, 0)[:2000], made[0][:2000])


def spectrum(sound):
    """Mean log power in 12 bands, level left out."""
    power = np.square(np.abs(np.fft.rfft(sound, 1 << 18)))
    edges = np.geomspace(60, 12000, 13) / 24000 * (1 << 18)
    bands = np.log10([power[int(a) : int(b)].mean() + 1e-9 for a, b in itertools.pairwise(edges)])
    return bands - bands.mean()


def test_procedural_classes_can_be_told_apart_by_unseen_recordings():
    features = {c: [np.append(spectrum(s := make(c, 0, n)), _burstiness(s)) for n in range(10)] for c in SOURCES}
    scale = np.std([f for made in features.values() for f in made], axis=0)
    right = 0
    for name, made in features.items():
        for unseen in made[7:]:
            distances = {
                c: min(np.linalg.norm((unseen - f) / scale) for f in known[:7]) for c, known in features.items()
            }
            right += min(distances, key=distances.get) == name
    # One in thirteen would be chance.
    assert right / (3 * len(features)) > 0.55


def _burstiness(sound):
    frames = np.square(sound[: len(sound) // 480 * 480]).reshape(-1, 480).mean(axis=1)
    return [
        np.log10(frames.max() / frames.mean()),
        np.log10(np.median(frames) / frames.mean() + 1e-4),
        len(frames) / 100,
    ]


def test_a_procedural_bank_has_other_recordings_in_every_split_and_names_stand_ins():
    bank = procedural_bank(DCASE2025, SoundsConfig(), 0)
    assert bank.notes == () and all(len(splits) == 1 for splits in splits_by_group(bank).values())
    assert all(bank.classes(split) == list(range(13)) for split in ("train", "val", "test"))
    custom = procedural_bank(FOUR, SoundsConfig(procedural_recordings=4), 0)
    assert "dog, siren, speech, rain" in custom.notes[0]
    sounds = [custom.sound(custom.draw(c, "train", np.random.default_rng(0))) for c in range(4)]
    profiles = [spectrum(sound) for sound in sounds]
    assert min(np.abs(profiles[a] - profiles[b]).max() for a in range(4) for b in range(a)) > 0.3


def test_a_folder_is_divided_by_collection_and_every_group_keeps_its_split_in_all_classes(tmp_path):
    put(tmp_path / "knock", "ann_1.wav", "ann_2.wav", "bob_1.wav", "cid_1.wav", "dan_1.wav", "eve_1.wav")
    put(tmp_path / "11_bell", "ann_3.wav", "bob_2.wav", "fox_1.wav")
    put(tmp_path / "laughter", "gus_1.wav", "gus_2.wav")
    put(tmp_path / "telephone", "ann_5.wav", "hal_1.wav")
    put(tmp_path / "traffic", "x.wav")
    bank = folder_bank(tmp_path, DCASE2025, SoundsConfig())
    groups = splits_by_group(bank)
    assert set(groups) == {"ann", "bob", "cid", "dan", "eve", "fox", "gus", "hal"}
    assert all(len(splits) == 1 for splits in groups.values())
    for name in ("knock", "bell", "telephone"):
        index = DCASE2025.folders.index(name)
        assert {"train", "test"} <= {r.split for r in bank.recordings if r.class_index == index}
    assert groups["gus"] == {"train"}
    assert any("Laughter: 1 group(s) (gus)" in note for note in bank.notes)
    assert any("traffic" in note for note in bank.notes)
    assert any("classes without any recording" in note and "Music" in note for note in bank.notes)
    again = folder_bank(tmp_path, DCASE2025, SoundsConfig(reuse_single=True))
    laughter = DCASE2025.folders.index("laughter")
    assert {r.split for r in again.recordings if r.class_index == laughter} == {"train", "val", "test"}


def test_groups_come_from_sub_folders_files_or_a_table(tmp_path):
    put(tmp_path / "speech", "ann/1.wav", "ann/2.wav", "bob/1.wav")
    put(tmp_path / "dog", "a_1.wav", "a_2.wav", "b_1.wav")
    groups = splits_by_group(folder_bank(tmp_path, FOUR, SoundsConfig()))
    assert set(groups) == {"ann", "bob", "a", "b"}
    alone = folder_bank(tmp_path, FOUR, SoundsConfig(group_by="recording"))
    assert len(splits_by_group(alone)) == 6
    (tmp_path / "groups.csv").write_text("file,group\ndog/a_2.wav,zed\n")
    assert "zed" in splits_by_group(folder_bank(tmp_path, FOUR, SoundsConfig(groups="groups.csv")))
    (tmp_path / "groups.csv").write_text("file,group\ndog/none.wav,zed\n")
    with pytest.raises(SeldError, match=r"none\.wav"):
        folder_bank(tmp_path, FOUR, SoundsConfig(groups="groups.csv"))


def test_other_rates_and_stereo_become_mono_at_24_khz(tmp_path):
    folder = tmp_path / "dog"
    folder.mkdir()
    tone = np.sin(2 * np.pi * 440 * np.arange(48000) / 48000).astype(np.float32)
    write_wav(folder / "a_1.wav", 0.3 * np.stack([tone, tone]), 48000)
    bank = folder_bank(tmp_path, FOUR, SoundsConfig())
    sound = bank.sound(bank.recordings[0])
    assert sound.shape == (24000,) and np.abs(sound).max() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(np.fft.rfft(sound)).argmax() == 440


def test_processes_of_one_simulation_load_each_sound_once(tmp_path, monkeypatch):
    put(tmp_path / "dog", *(f"a_{number}.wav" for number in range(5)))
    (tmp_path / "shared").mkdir()
    alone, *banks = (folder_bank(tmp_path, FOUR, SoundsConfig(group_by="recording")) for _ in range(3))
    loaded = []
    for bank in banks:
        bank.shared = tmp_path / "shared"
        bank.load = lambda recording, load=bank.load: loaded.append(recording.source) or load(recording)
    for recording in alone.recordings:
        for bank in (*banks, *banks):
            np.testing.assert_array_equal(bank.sound(recording), alone.sound(recording))
            assert bank.samples(recording) == alone.samples(recording) == 4800
    assert sorted(loaded) == sorted(r.source for r in alone.recordings)
    files = sorted((tmp_path / "shared").iterdir())
    assert len(files) == 5 and all(file.stat().st_size == 9600 for file in files)
    # A disk that is nearly full is left alone, and the sounds are the same.
    (tmp_path / "full").mkdir()
    monkeypatch.setattr(sound_bank, "FREE_BYTES", 1 << 60)
    banks[0].shared, banks[0]._kept = tmp_path / "full", {}
    np.testing.assert_array_equal(banks[0].sound(alone.recordings[0]), alone.sound(alone.recordings[0]))
    assert not list((tmp_path / "full").iterdir())


def test_esc50_and_fsd50k_folders_are_understood(tmp_path):
    esc = tmp_path / "esc"
    put(esc / "audio", "1-100-A-0.wav", "1-100-B-0.wav", "2-7-A-1.wav", "3-9-A-2.wav")
    (esc / "meta").mkdir()
    (esc / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-100-A-0.wav,1,0,door_wood_knock,F,100,A\n1-100-B-0.wav,1,0,door_wood_knock,F,100,B\n"
        "2-7-A-1.wav,2,1,footsteps,F,7,A\n3-9-A-2.wav,3,2,dog,F,9,A\n"
    )
    bank = folder_bank(esc, DCASE2025, SoundsConfig())
    found = {r.source: (DCASE2025.folders[r.class_index], r.group) for r in bank.recordings}
    assert found == {
        "audio/1-100-A-0.wav": ("knock", "100"),
        "audio/1-100-B-0.wav": ("knock", "100"),
        "audio/2-7-A-1.wav": ("walk_footsteps", "7"),
    }
    assert [FOUR.folders[r.class_index] for r in folder_bank(esc, FOUR, SoundsConfig()).recordings] == ["dog"]
    fsd = tmp_path / "fsd"
    put(fsd / "FSD50K.dev_audio", "1.wav", "2.wav", "3.wav")
    (fsd / "FSD50K.ground_truth").mkdir()
    (fsd / "FSD50K.ground_truth" / "dev.csv").write_text(
        'fname,labels,mids,split\n1,"Knock,Door,Domestic_sounds_and_home_sounds",/m/1,train\n'
        '2,"Laughter,Clapping",/m/2,train\n3,"Acoustic_guitar,Guitar,Musical_instrument,Music",/m/3,val\n'
    )
    found = {r.source: DCASE2025.folders[r.class_index] for r in folder_bank(fsd, DCASE2025, SoundsConfig()).recordings}
    assert found == {"FSD50K.dev_audio/1.wav": "knock", "FSD50K.dev_audio/3.wav": "musical_instrument"}


def test_a_folder_without_sounds_of_a_class_is_refused_by_name(tmp_path):
    with pytest.raises(SeldError, match="does not exist"):
        folder_bank(tmp_path / "none", DCASE2025, SoundsConfig())
    put(tmp_path / "traffic", "x.wav")
    with pytest.raises(SeldError, match="female_speech"):
        folder_bank(tmp_path, DCASE2025, SoundsConfig())


def test_without_a_test_fraction_all_recordings_train_and_test_clips_are_refused(tmp_path):
    for name in FOUR.folders:
        put(tmp_path / name, "a_1.wav", "b_1.wav", "c_1.wav")
    everything = SoundsConfig(test_fraction=0, validation_fraction=0)
    bank = folder_bank(tmp_path, FOUR, everything)
    assert {recording.split for recording in bank.recordings} == {"train"} and not bank.notes
    assert {recording.split for recording in procedural_bank(FOUR, everything, 0).recordings} == {"train"}
    with pytest.raises(ValueError, match="no recording is left for clips"):
        SimulateConfig(bank=everything)
    assert SimulateConfig(bank=everything, clips=ClipCounts(test=0)).clips.test == 0


def test_what_is_passed_over_and_what_is_silent_is_said(tmp_path, capsys):
    put(tmp_path / "dog", "a.wav", "b.wav")
    for name in ("dog/c.m4a", "dog/more/d.wma", "siren/e.WMA", "f.m4a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"sound")
    put(tmp_path, "loose.wav")
    write_wav(tmp_path / "dog" / "b.wav", np.zeros((1, 4800), np.float32))
    bank = folder_bank(tmp_path, FOUR, SoundsConfig(group_by="recording"))
    notes = "\n".join(bank.notes)
    for name in ("dog/c.m4a", "dog/more/d.wma", "siren/e.WMA", "f.m4a"):
        assert name in notes.split("convert them to wav or flac: ")[1].splitlines()[0]
    assert "beside the class folders were left out: loose.wav" in notes
    assert sorted(recording.source for recording in bank.recordings) == ["dog/a.wav", "dog/b.wav"]
    for recording in bank.recordings:
        bank.load(recording)
    assert f"{tmp_path / 'dog' / 'b.wav'} is silent" in capsys.readouterr().err


def test_what_cannot_be_read_is_left_out_and_the_rest_is_used(tmp_path, capsys):
    """One bad file of a bank stops neither planning nor work that is half done."""
    put(tmp_path / "dog", "a.wav", "b.wav", "c.wav", "d.wav")
    (tmp_path / "dog" / "b.wav").write_bytes(b"a page of text in place of sound")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 48_000)).astype(np.float32)
    sf.write(tmp_path / "dog" / "e.flac", noise[0], 24_000)
    whole = (tmp_path / "dog" / "e.flac").read_bytes()
    (tmp_path / "dog" / "e.flac").write_bytes(whole[: len(whole) // 3])
    bank = folder_bank(tmp_path, FOUR, SoundsConfig(group_by="recording"))
    assert "sounds that cannot be read were left out: " in "\n".join(bank.notes) and "b.wav" in "\n".join(bank.notes)
    assert sorted(r.source for r in bank.recordings) == ["dog/a.wav", "dog/c.wav", "dog/d.wav", "dog/e.flac"]
    damaged = next(r for r in bank.recordings if r.source == "dog/e.flac")
    assert bank.samples(damaged) and not bank.sound(damaged).any()
    assert "e.flac" in capsys.readouterr().err
    for path in (tmp_path / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(SeldError, match=r"No sound in .* can be read"):
        folder_bank(tmp_path, FOUR, SoundsConfig())


def test_ambience_that_cannot_be_read_is_left_out(tmp_path, capsys):
    put(tmp_path, "a.wav", "b.wav")
    sf.write(tmp_path / "none.wav", np.zeros(0), 24_000)
    (tmp_path / "b.wav").write_bytes(b"nothing")
    bank = ambience_bank(tmp_path, SoundsConfig(test_fraction=0, validation_fraction=0))
    assert len(bank.notes) == 1 and "b.wav" in bank.notes[0]
    stretches = [bank.stretch("train", seed, 4, 100) for seed in range(40)]
    assert any(s is not None for s in stretches) and all(np.isfinite(s).all() for s in stretches if s is not None)
    (tmp_path / "a.wav").write_bytes(b"nothing")
    with pytest.raises(SeldError, match=r"no recording that can be read: .*a.wav"):
        (tmp_path / "none.wav").unlink()
        ambience_bank(tmp_path, SoundsConfig())
