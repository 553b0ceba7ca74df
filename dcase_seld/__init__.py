"""dcase_seld: sound event localization and detection in ordinary video, from dry sounds to a challenge submission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dcase_seld.api import load_model, predict, read_events, run_recipe, score

__version__ = "0.1.0"
__all__ = ["load_model", "predict", "read_events", "run_recipe", "score"]


def __getattr__(name: str) -> Any:
    """Return one of the calls of `dcase_seld.api`, imported when it is first asked for."""
    if name in __all__:
        from dcase_seld import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
