"""dcase_seld: sound event localization and detection in ordinary video, from dry sounds to a challenge submission."""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcase_seld.api import load_model as load_model
    from dcase_seld.api import predict as predict
    from dcase_seld.api import read_events as read_events
    from dcase_seld.api import run_recipe as run_recipe
    from dcase_seld.api import score as score

__version__ = "0.2.0.dev0"
_CALLS = ("load_model", "predict", "read_events", "run_recipe", "score")
_PLUGIN_NAMES = (
    *("augmentation", "encoder", "feature", "loss_term", "semantic_encoder", "stage", "visual_rule"),
    "load_plugins",
)
_CLASSES = {
    **{"Config": "core.config", "Events": "core.events", "SeldError": "core.errors", "ref": "core.config"},
    "metric": "scoring.figures",
}
__all__ = [*_CALLS, *_PLUGIN_NAMES, *_CLASSES]

# OpenCV reads this when it is imported: a file of 200 bytes may claim a picture of 4 GB (Python's own setting stays).
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**27))
with suppress(OSError, ValueError, IndexError):
    # PyTorch's threads (of Linux) wait for each other awake, and where another program has one's core the others burn
    # theirs for its whole turn. If one runs now, they are to wait briefly: a training is then 1.2 to 1.4 times as fast
    # beside one program, twice beside two; alone it would be 0.9 times (benchmarks/train_throughput.py --beside).
    if int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]) > 1:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if os.environ.get("DCASE_SELD_PLUGINS"):
    # A process that was started unpacks what it was given before anything else runs: plug-ins must be found by then.
    from dcase_seld.core import registry as _registry

    _registry._Finder.install()


def __getattr__(name: str) -> Any:
    """Return a call of `dcase_seld.api`, a decorator for plug-ins or a class, imported when it is first asked for."""
    if name in __all__:
        module = "api" if name in _CALLS else "core.registry" if name in _PLUGIN_NAMES else _CLASSES[name]
        return getattr(importlib.import_module(f"dcase_seld.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
