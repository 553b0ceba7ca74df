"""The `keypoints` stage: people in sampled frames of every clip's video."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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


def ready(config: KeypointsConfig) -> None:
    """Raise where the pose model is not on this machine."""
    from dcase_seld.model.registry import find_model

    find_model(config.model, kind="pose")


def run(config: KeypointsConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write the keypoints folder: shards of people and keypoints.json; several workers share the shards."""
    from dcase_seld.data.store import Store
    from dcase_seld.post.keypoints import KEYPOINTS, Keypoints
    from dcase_seld.post.shards import done_clips
    from dcase_seld.processes import share_work
    from dcase_seld.progress import progress, say

    store = Store.open(inputs["data"][0])
    names = [store.names[i] for i in store.indices(config.split)]
    shards = KEYPOINTS.pending(out, len(names))
    with progress("keypoints", len(names), "clips", context.quiet) as advance:
        advance(done_clips(len(names), shards))
        workers = min(context.workers, len(shards))
        if workers > 1:
            look = partial(look_at_shards, config, inputs["data"][0], out)
            for done in share_work(look, [[shard] for shard in shards], workers, "looks at videos"):
                advance(done)
        elif shards:
            look_at_shards(config, inputs["data"][0], out, shards, advance)
    KEYPOINTS.finish(out, len(names), {"fps": config.fps, "mode": config.mode, "model": config.model})
    result = Keypoints([out])
    problems = [f"{name}: {result[name].problem}" for name in names if result[name].problem]
    if problems:
        say(f"keypoints: {len(problems)} of {len(names)} clips have no or incomplete pictures; first: {problems[0]}")
    found = sum(len(result[name].frame) for name in names)
    frames = sum(int(result[name].seen.sum()) for name in names)
    return {"clips": len(names), "frames": frames, "people": found, "clips_with_problems": len(problems)}


def look_at_shards(
    config: KeypointsConfig,
    store_folder: Path,
    out: Path,
    shards: list[int],
    advance: Callable[..., None] = lambda count: None,
) -> int:
    """Write some shards of the keypoints folder; return the number of clips looked at."""
    from dcase_seld.config import parse_config
    from dcase_seld.data.store import Store
    from dcase_seld.post.keypoints import KEYPOINTS, ClipPeople, find_in_video, sample_times
    from dcase_seld.post.people import PeopleConfig, PeopleFinder
    from dcase_seld.task.facts import LABEL_RATE

    store = Store.open(store_folder)
    indices = store.indices(config.split)
    names = [store.names[i] for i in indices]
    people = parse_config(PeopleConfig, {"mode": config.mode, "model": config.model}, "keypoints")
    done = 0
    with PeopleFinder(people) as finder:

        def look(position: int) -> ClipPeople:
            nonlocal done
            done += 1
            index = indices[position]
            seconds = float(store.frames[index]) / LABEL_RATE
            return find_in_video(finder, store.videos[index], sample_times(seconds, config.fps))

        for shard in shards:
            KEYPOINTS.write_shard(out, names, shard, look, advance)
    return done


STAGE = Stage("keypoints", "keypoints", KeypointsConfig, run, ready=ready)
