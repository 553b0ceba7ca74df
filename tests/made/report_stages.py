"""A predictor whose quality is known, as a stage: it writes the labels of the test clips with errors."""

from typing import Annotated

import numpy as np
from pydantic import Field

from dcase_seld.core.config import Config, Ref
from dcase_seld.recipe.graph import Registry
from dcase_seld.recipe.stage import Stage
from dcase_seld.stages import STAGE_MODULES, load_stage


class BlurConfig(Config):
    data: Annotated[str, Ref("store")] = Field(description="store")
    spread_deg: float = Field(description="standard deviation of the azimuth error")
    lost: float = Field(0.1, description="share of events not found")
    seed: int = Field(0, description="seed")
    untrained: bool = Field(False, description="say that the network was never trained")


def blur(config, inputs, out, context):
    """Write the labels of the test clips with errors: a predictor whose quality is known."""
    from dataclasses import replace

    from dcase_seld.store.store import Store

    store = Store.open(inputs["data"][0])
    names = [store.names[index] for index in store.indices("test")]
    truth = store.events.select_clips(names)
    rng = np.random.default_rng(config.seed)
    kept = truth.take(rng.random(len(truth)) >= config.lost)
    azimuth = np.clip(kept.azimuth_deg + rng.normal(0, config.spread_deg, len(kept)), -90, 90)
    wrong = rng.random(len(kept)) < 0.1
    (out / "epochs.csv").write_text("epoch,loss,f_score\n1,0.5,0.1\n2,0.4,0.3\n")
    replace(
        kept,
        azimuth_deg=azimuth,
        class_index=np.where(wrong, (kept.class_index + 1) % 13, kept.class_index).astype(np.int32),
        onscreen=kept.onscreen ^ (rng.random(len(kept)) < 0.2),
        activity=rng.uniform(0.5, 1, len(kept)).astype(np.float32),
    ).save(out / "events.npz")
    return {"events": len(kept), "random_weights": ["blurred"] if config.untrained else []}


STAGES = {"blur": Stage("blur", "events", BlurConfig, blur)}
REGISTRY = Registry((*STAGE_MODULES, "blur"), lambda name: STAGES[name] if name in STAGES else load_stage(name))
