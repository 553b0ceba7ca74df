"""Several processes on one recipe, as torchrun and SLURM start them: the first works, the others follow.

A step whose stage shares its work (`Stage.shared`) and is configured for several devices or nodes runs in all of them;
every other step is made by the first alone, and the others wait for its receipt.
"""

from __future__ import annotations

import os
import time

from dcase_seld.recipe.lock import held_by
from dcase_seld.recipe.plan import Plan, look
from dcase_seld.recipe.stage import Context

PAUSE_S = 0.2


def process_rank() -> int:
    """Return this process' number among those that torchrun or SLURM started; 0 for a process on its own."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"])
    return int(os.environ.get("SLURM_PROCID", "0")) if "SLURM_NTASKS" in os.environ else 0


def follow_step(plan: Plan, name: str, context: Context) -> None:
    """Wait until the first process has made a step; help, where its work is shared.

    Whether the first process failed is the launcher's to see: it then ends the others.
    """
    planned = plan.steps[name]
    stage, config = planned.step.stage, planned.step.config
    shared = stage.shared and getattr(config, "devices", 1) * getattr(config, "nodes", 1) > 1
    while not look(plan, name):
        if shared and planned.folder.is_dir() and held_by(planned.folder):
            stage.run(config, plan.inputs(name), planned.folder, context)
            shared = False
        time.sleep(PAUSE_S)
