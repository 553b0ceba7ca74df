"""What a paper would vary, by name: registries of encoders, features, loss terms, …, and plug-ins that add to them.

Built-in choices stand in the same registries, as "module:attribute", and are imported when they are chosen. A plug-in
is a file or an installed module that the user names himself (`--plugin`, `plugins=`, or the variable below); nothing
is ever imported because a recipe, a checkpoint or a zip says so. Processes that are started inherit the plug-ins
through the environment.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.abc
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from dcase_seld.core.errors import SeldError, nearest, reason

VARIABLE, PREFIX = "DCASE_SELD_PLUGINS", "dcase_seld_plugin_"
"""Environment variable with plug-ins, separated as in PATH; beginning of the module name of one that is a file."""


@dataclass(frozen=True)
class Plugin:
    """A file or module that was loaded: its name, and the hash of its source."""

    name: str
    sha256: str


class Registry:
    """Entries by name: `built_in` (name → "module:attribute") and those of plug-ins, called with what `takes` says."""

    def __init__(self, what: str, built_in: Mapping[str, str] | None = None, takes: str = "") -> None:
        self.what, self.takes, self._built_in = what, takes, dict(built_in or {})
        self._added: dict[str, tuple[Any, Plugin]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._added

    @property
    def names(self) -> tuple[str, ...]:
        """Return all names, the built-in ones first."""
        return (*self._built_in, *self._added)

    def __getitem__(self, name: str) -> Any:
        """Return an entry, imported now if it is built in. Raises SeldError: there is none of this name."""
        if name in self._added:
            return self._added[name][0]
        if name not in self._built_in:
            raise SeldError(self.unknown(name), "Choose one of these, or name the plug-in that brings it (--plugin).")
        module, _, attribute = self._built_in[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def unknown(self, name: str) -> str:
        """Return the sentence about a name that is not there."""
        hint = nearest(name, self.names, otherwise=f"there are {', '.join(self.names) or 'none'}")
        return f"There is no {self.what} {name!r}; {hint}"

    def add(self, name: str, entry: Any, function: Any = None) -> None:
        """Add an entry of the plug-in that is being loaded; `function` does its work, by default the entry itself.

        Raises:
            SeldError: the name is taken by something else, or the function takes other arguments.
        """
        taken = self._added.get(name)
        if name in self._built_in or (taken is not None and taken[1].name != _loading().name):
            raise SeldError(
                f"The plug-in {_loading().name} brings the {self.what} {name!r}, a name that is taken.",
                "Give it another name.",
            )
        try:
            inspect.signature(function or entry).bind(*self.takes.split(", ")) if self.takes else None
        except TypeError as error:
            raise SeldError(
                f"The {self.what} {name!r} of the plug-in {_loading().name} is called with other arguments: {error}.",
                f"Let it take ({self.takes}).",
            ) from error
        self._added[name] = (entry, _loading())

    def plugin_of(self, name: str) -> Plugin | None:
        """Return the plug-in that brought an entry, None for built-in ones."""
        return self._added[name][1] if name in self._added else None


_KINDS = ("conformer", "resnet_conformer")
ENCODERS = Registry("encoder", dict.fromkeys(_KINDS, "dcase_seld.model.encoders:SeldEncoder"), "settings, shape")
_FEATURES = ("log_mel", "ild", "stpacc", "mid_side", "coherence", "intensity", "direct", "intensity_vector")
_PLACES = {name: f"dcase_seld.model.features:{name.upper()}" for name in _FEATURES}
FEATURES = Registry("feature", _PLACES, "spectrum, bank")
_TERMS = {"adpit": "dcase_seld.train.losses:adpit_loss", "angle": "dcase_seld.train.losses:angle_term"}
LOSS_TERMS = Registry("loss term", _TERMS, "out, target")
AUGMENTATIONS = Registry("augmentation", takes="x, target, which, rng")
_ENCODER_FILES = {"clap": "clap", "owlvit": "owlvit", "onnx": "onnx", "yamnet": "onnx", "voice": "voice"}
SEMANTIC_ENCODERS = Registry(
    "semantic encoder", {kind: f"dcase_seld.pretrained.{file}:from_config" for kind, file in _ENCODER_FILES.items()}
)
VISUAL_RULES = Registry("visual rule", {"body": "dcase_seld.vision.rules:judge"}, "events, seen")
METRICS = Registry("metric")
"""Those of plug-ins; `scoring.figures.metric` registers them, and its table holds the built-in ones too."""
STAGES = Registry("stage", takes="config, inputs, out, context")
REGISTRIES = (ENCODERS, FEATURES, LOSS_TERMS, AUGMENTATIONS, SEMANTIC_ENCODERS, VISUAL_RULES, METRICS, STAGES)


@dataclass(frozen=True)
class FeatureEntry:
    """A feature as a plug-in registers it, see `feature`."""

    channels: str
    maps: tuple[str, ...]
    signed: tuple[str, ...]
    levels: bool
    function: Callable[..., Any]


@dataclass(frozen=True)
class StageEntry:
    """A stage as a plug-in registers it, see `stage`."""

    name: str
    produces: str
    config: type
    run: Callable[..., Any]
    options: Mapping[str, Any]


def encoder(name: str) -> Callable[[type], type]:
    """Register a class as `model: {encoder: {kind: NAME}}`; its `Settings` (a Config) are the keys beside `kind`.

    It is made with (settings, EncoderShape), has a `width`, and maps (features (B, A, T', F), tokens) to (B, T, width).
    """
    return _decorator(ENCODERS, name)


def feature(
    name: str, maps: Sequence[str], signed: Sequence[str] = (), levels: bool = False, channels: str = "stereo"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a feature of the front end: (spectrum, bank) → (B, maps, frames, F).

    `maps` and `signed`: names of the maps that it gives, and of those that change sign when left and right are swapped;
    `levels`: they are levels in dB; `channels`: of stereo or foa recordings. `spectrum` is (B, channels, frames, bins),
    complex; `bank` (bins, F). Raises SeldError: a signed map is none of the maps.
    """
    if strange := set(signed) - set(maps):
        raise SeldError(f"The feature {name!r} has no map {min(strange)!r}, which it calls signed.", "Mend its name.")

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        FEATURES.add(name, FeatureEntry(channels, tuple(maps), tuple(signed), levels, function), function)
        return function

    return register


def loss_term(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a term of the loss: (SeldOutput, SeldTarget) → a mean over the clips of a batch."""
    return _decorator(LOSS_TERMS, name)


def augmentation(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as `augment: {NAME: probability}`: (input, target, which, rng) → (input, target).

    `which` is (B,) bool, the clips that undergo it; `rng` a torch generator of the CPU.
    """
    return _decorator(AUGMENTATIONS, name)


def semantic_encoder(name: str, gives: str = "sound") -> Callable[[type], type]:
    """Register a class as `embed: {model: {kind: NAME}}`, see `pretrained.encoder.SemanticEncoder`.

    Its `Settings`, where it has any, are the keys beside `kind`, and what it is made with.
    """

    def register(made: type) -> type:
        made.gives = gives  # type: ignore[attr-defined]
        SEMANTIC_ENCODERS.add(name, made)
        return made

    return register


def visual_rule(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a rule of the visual step: (events, people by clip) → (E,).

    Bool: whether an event is on screen; numbers: the probability that it is, NaN where the rule has no say.
    """
    return _decorator(VISUAL_RULES, name)


def stage(name: str, produces: str, config: type, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a kind of step: (config, inputs, out, context) → facts or None.

    `produces`: the kind of folder that it writes; options: version, shared, ready, fetch of `recipe.stage.Stage`.
    """

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        STAGES.add(name, StageEntry(name, produces, config, run, options), run)
        return run

    return register


def _decorator(registry: Registry, name: str) -> Callable[[Any], Any]:
    if not isinstance(name, str):
        raise SeldError(f"A {registry.what} has no name.", "Write one in brackets behind it.")

    def register(entry: Any) -> Any:
        registry.add(name, entry)
        return entry

    return register


_stack: list[Plugin] = []
_loaded: dict[str, Plugin] = {}


def _loading() -> Plugin:
    """Return the plug-in that is being loaded, or else the calling program."""
    return _stack[-1] if _stack else Plugin("the calling program", "")


def is_loading() -> bool:
    """Return whether what runs now is a plug-in that is being loaded."""
    return bool(_stack)


def loaded_plugins() -> list[Plugin]:
    """Return the plug-ins that were loaded, in order."""
    return list(_loaded.values())


def used_plugins(names: Iterable[object]) -> dict[str, str]:
    """Return plug-in → SHA-256 of the plug-ins that brought an entry that is named among `names`."""
    wanted = {name for name in names if isinstance(name, str)}
    found = [one.plugin_of(name) for one in REGISTRIES for name in wanted]
    return {one.name: one.sha256 for one in sorted({p for p in found if p is not None}, key=lambda p: p.name)}


def load_plugins(plugins: Iterable[str | os.PathLike[str]] = ()) -> list[Plugin]:
    """Return the plug-ins that the environment and the user name, loaded; processes started later inherit them.

    Raises:
        SeldError: a plug-in is not there, or fails.
    """
    given = [*filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)), *(os.fspath(one) for one in plugins)]
    places = list(dict.fromkeys(str(Path(p).absolute()) if _is_file(p) else p for p in given))
    made = [_load(place) for place in places]
    if places:
        os.environ[VARIABLE] = os.pathsep.join(places)
        _Finder.install()
    return made


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _load(place: str) -> Plugin:
    if place in _loaded:
        return _loaded[place]
    depth = len(_stack)
    try:
        plugin = Plugin(Path(place).name if _is_file(place) else place, hash_source(place))
        _stack.append(plugin)
        _run_file(place) if _is_file(place) else importlib.import_module(place)
    except SeldError:
        raise
    except Exception as error:
        known = isinstance(error, OSError | ImportError | SyntaxError)
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == place]
        said = reason(error) if getattr(error, "filename", None) == place else error
        what = f"{f'line {lines[-1]}: ' if lines else ''}{'' if known else f'{type(error).__name__}: '}{said}"
        raise SeldError(f"The plug-in {place} cannot be loaded: {what}.", "Mend it, or leave it out.") from error
    finally:
        del _stack[depth:]
    _loaded[place] = plugin
    return plugin


def hash_source(place: str) -> str:
    """Return the SHA-256 of a file or a module; of a package that of all its files, which it may import."""
    files = [Path(place)]
    if not _is_file(place):
        spec = importlib.util.find_spec(place)
        if spec is None or not spec.origin:
            raise SeldError(f"The plug-in {place!r} is no installed module and no file.", "Check its name.")
        if not Path(spec.origin).is_file():
            raise SeldError(f"The plug-in {place!r} is a part of Python.", "Name a file or a module of your own.")
        inner = [
            path for folder in spec.submodule_search_locations or () for path in sorted(Path(folder).rglob("*.py"))
        ]
        files = inner or [Path(spec.origin)]
    strange = next((path for path in files if path.exists() and not path.is_file()), None)
    if strange is not None:  # a device has no end, and a pipe waits for ever
        raise SeldError(f"The plug-in {strange} is no regular file.", "Name a Python file or a module of your own.")
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _run_file(place: str) -> None:
    name = PREFIX + re.sub(r"\W", "_", Path(place).stem)
    if name in sys.modules:
        if not Path(place).samefile(other := str(sys.modules[name].__file__)):
            raise SeldError(f"The plug-ins {other} and {place} have one name.", "Rename one of the two files.")
        return
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of plug-ins by name where a started process unpacks what it was given before anything is loaded."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Load the plug-ins; return where the module of this name is then, None for other modules."""
        if not fullname.startswith(PREFIX) or _stack:
            return None
        load_plugins()
        return ModuleSpec(fullname, self) if fullname in sys.modules else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module that was loaded."""
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module ran when its plug-in was loaded."""

    @classmethod
    def install(cls) -> None:
        """Let imports find plug-ins; once."""
        if not any(isinstance(finder, cls) for finder in sys.meta_path):
            sys.meta_path.insert(0, cls())
