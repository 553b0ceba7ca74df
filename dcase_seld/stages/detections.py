"""The `detections` stage: objects that may sound, found in sampled frames by their description in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Outside, Ref, Stage

if TYPE_CHECKING:
    from dcase_seld.data.store import Store
    from dcase_seld.model.semantic.open_vocabulary import OpenVocabularyDetector
    from dcase_seld.post.detections import ClipObjects


class DetectionsConfig(Config):
    """Which clips are looked at, how often, and for what."""

    data: Annotated[str, Ref("store")] = Field(description="Step whose clips' videos are looked at.")
    model: str = Field("owlvit", description="Known model or hub name of OWL-ViT.")
    path: Annotated[str | None, Outside()] = Field(None, description="Folder with its weights, in place of `model`.")
    split: Literal["train", "val", "test", "eval", "all"] | list[Literal["train", "val", "test", "eval"]] = Field(
        "all", description="Which clips."
    )
    fps: float = Field(1.0, gt=0, le=30, description="Sampled frames per second.")
    queries: dict[str, list[str]] = Field({}, description="Class name → words; replaces the default words of a class.")
    threshold: float = Field(0.1, ge=0, le=1, description="Score from which a detection counts.")
    thresholds: dict[str, float] = Field({}, description="Class name → its own threshold.")
    batch: int = Field(4, ge=1, description="Pictures per forward pass.")


def ready(config: DetectionsConfig) -> None:
    """Raise where OWL-ViT's weights are not on this machine."""
    from dcase_seld.model.registry import find_model

    find_model(config.path or config.model, kind="vision")


def run(config: DetectionsConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write the detections folder: shards of boxes and detections.json."""
    from dcase_seld.data.store import Store
    from dcase_seld.model.semantic.open_vocabulary import load_detector
    from dcase_seld.post.detections import DETECTIONS, queries_of, read_detections
    from dcase_seld.progress import progress, say
    from dcase_seld.train.devices import single_device

    store = Store.open(inputs["data"][0])
    words, classes = queries_of(store.taxonomy, config.queries)
    limits = [config.thresholds.get(store.taxonomy.classes[index], config.threshold) for index in classes]
    detector = load_detector(
        config.path or config.model, words, batch=config.batch, device=str(single_device(context.device))
    )
    if detector.owlvit.random_weights:
        say("warning: the OWL-ViT weights are RANDOM (made for tests); its detections mean nothing.")
    indices = store.indices(config.split)
    names = [store.names[i] for i in indices]
    facts = {
        "model": Path(config.path or config.model).name,
        "weights": detector.owlvit.weights_fingerprint,
        "random_weights": detector.owlvit.random_weights,
        "classes": list(store.taxonomy.classes),
        "queries": [{"words": w, "class": c, "threshold": t} for w, c, t in zip(words, classes, limits, strict=True)],
        "fps": config.fps,
    }
    with progress("detections", len(names), "clips", context.quiet) as advance:
        DETECTIONS.write(
            out, names, lambda k: _look(store, int(indices[k]), detector, classes, limits, config.fps), facts, advance
        )
    clips = read_detections([out], store.taxonomy)
    return {
        "clips": len(names),
        "objects": sum(len(clip.frame) for clip in clips.values()),
        "clips_with_problems": sum(bool(clip.problem) for clip in clips.values()),
        "random_weights": detector.owlvit.random_weights,
    }


def _look(
    store: Store,
    index: int,
    detector: OpenVocabularyDetector,
    classes: list[int],
    limits: list[float],
    fps: float,
) -> ClipObjects:
    """Return the objects of one clip; the frames of a clip go through the network in batches."""
    import numpy as np

    from dcase_seld.media.video import read_frames
    from dcase_seld.post.detections import ClipObjects
    from dcase_seld.post.keypoints import sample_times
    from dcase_seld.task.facts import LABEL_RATE

    times = sample_times(float(store.frames[index]) / LABEL_RATE, fps)
    path = store.videos[index]
    images: list[Any] = [None] * len(times)
    problem: str | None = "there is no video"
    if path is not None:
        frames = read_frames(path, times.tolist())
        images, problem = list(frames.images), frames.problem
    there = [k for k, image in enumerate(images) if image is not None]
    rows, of_class, of_query = np.array(classes, np.int64), [], []
    frame, box, score = [], [], []
    step = detector.owlvit.batch
    for start in range(0, len(there), step):
        part = there[start : start + step]
        found = detector.detect(detector.owlvit.see([images[k] for k in part]), min(limits))
        for k, boxes in zip(part, found, strict=True):
            sure = boxes.score >= np.array(limits, np.float32)[boxes.query]
            frame += [k] * int(sure.sum())
            box.append(boxes.box[sure])
            score.append(boxes.score[sure])
            of_query.append(boxes.query[sure])
            of_class.append(rows[boxes.query[sure]])
    seen = np.zeros(len(times), np.bool_)
    seen[there] = True
    return ClipObjects(
        times,
        seen,
        np.array(frame, np.int64),
        np.concatenate(box).astype(np.float32) if box else np.zeros((0, 4), np.float32),
        np.concatenate(of_class) if of_class else np.zeros(0, np.int64),
        np.concatenate(of_query) if of_query else np.zeros(0, np.int64),
        np.concatenate(score).astype(np.float32) if score else np.zeros(0, np.float32),
        problem or "",
    )


STAGE = Stage("detections", "detections", DetectionsConfig, run, ready=ready)
