"""The `keypoints` stage: people in sampled frames of every clip's video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from dcase_seld.config import Config
from dcase_seld.recipe.stage import Context, Inputs, Ref, Stage


class KeypointsConfig(Config):
    """Which clips are looked at, how often and how closely."""

    data: Annotated[str, Ref("store")] = Field(description="Step whose clips' videos are looked at.")
    split: Literal["train", "val", "test", "eval", "all"] | list[Literal["train", "val", "test", "eval"]] = Field(
        "all", description="Which clips."
    )
    fps: float = Field(2.0, gt=0, le=30, description="Sampled frames per second.")
    mode: Literal["accurate", "fast"] = Field(
        "fast", description="fast: one look, about 60 ms a frame; accurate: tiles and checks, about 300 ms."
    )
    model: str = Field("pose", description="pose, pose-lite, pose-heavy, or a folder that holds such a model.")


def run(config: KeypointsConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write the keypoints folder: shards of people and keypoints.json."""
    from dcase_seld.data.store import Store
    from dcase_seld.post.keypoints import ClipPeople, Keypoints, find_in_video, sample_times, write_keypoints
    from dcase_seld.post.people import PeopleConfig, PeopleFinder
    from dcase_seld.progress import progress, say
    from dcase_seld.task.facts import LABEL_RATE

    store = Store.open(inputs["data"][0])
    indices = store.indices(config.split)
    names = [store.names[i] for i in indices]
    people = PeopleConfig(mode=config.mode, model=config.model)
    facts = {"fps": config.fps, "mode": config.mode, "model": config.model}
    with PeopleFinder(people) as finder, progress("keypoints", len(names), "clips", context.quiet) as advance:

        def look(position: int) -> ClipPeople:
            index = indices[position]
            return find_in_video(
                finder, store.videos[index], sample_times(float(store.frames[index]) / LABEL_RATE, config.fps)
            )

        write_keypoints(out, names, look, facts, advance)
    result = Keypoints([out])
    problems = [f"{name}: {result[name].problem}" for name in names if result[name].problem]
    if problems:
        say(f"keypoints: {len(problems)} of {len(names)} clips have no or incomplete pictures; first: {problems[0]}")
    found = sum(len(result[name].frame) for name in names)
    frames = sum(int(result[name].seen.sum()) for name in names)
    return {"clips": len(names), "frames": frames, "people": found, "clips_with_problems": len(problems)}


STAGE = Stage("keypoints", "keypoints", KeypointsConfig, run)
