"""Frozen embeddings of clips in one folder: half-precision shards, found by clip name, written shard by shard.

    tokens.json                 what the tokens are (`TokenSpec`), the clips' names in order, clips per shard
    shard-00000.npy             (clips of this shard, *shape) float16
    mirror-00000.npy            the same of left-right mirrored input, where the spec says so
    mask-00000.npy              (clips of this shard, shape[0]) bool, False where a token row is missing, where given

`tokens.json` is the last file written: a folder without it is unfinished, and a writer goes on from the shards there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from dcase_seld.core import old_formats
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.files import whole_file, write_bytes
from dcase_seld.core.reading import Facts, read_json


def mirrored_order(tokens: int) -> npt.NDArray[np.int64]:
    """Return (P,) indices that put the columns of the grid in reverse order and keep the class token first.

    `tokens[..., mirrored_order(P), :]` stands in for the tokens of the mirrored picture: right about where things are,
    wrong about how each patch looks and about position embeddings. benchmarks/embed.py measures the difference.
    """
    side = math.isqrt(tokens - 1)
    if side * side != tokens - 1:
        raise ValueError(f"{tokens} tokens are not a class token and a square grid")
    grid = 1 + np.arange(side * side, dtype=np.int64).reshape(side, side)
    return np.concatenate([[0], grid[:, ::-1].reshape(-1)])


FORMAT = 2

SHARD_BYTES = 64 * 2**20
"""Aimed size of a shard: large enough to read fast, small enough to lose little when a writer is killed."""

Float16 = npt.NDArray[np.float16]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TokenSpec:
    """What a folder of tokens holds."""

    name: str  # the encoder's name, by which networks ask for them; "features" of a front end's cached output
    gives: str  # what they are of: "sound", "image" (then a mask says which frames are there), or "features"
    model: str  # name of the network that made them
    fingerprint: str  # fingerprint of its weights and of what it was given
    random_weights: bool  # True where the network was never trained (tests, trials without downloads)
    shape: tuple[int, ...]  # shape of one window's tokens, e.g. (5, 577, 512).
    mirror: bool = False  # the tokens of the left-right mirrored input can be read too
    mirror_by: str = "stored"  # "stored" in the folder, or "grid_flip": the columns of the token grid in reverse order
    # configuration of the encoder (an embed step's `model:`), so that a recording can be embedded alike
    encoder: dict[str, Any] = field(default_factory=dict)
    # identity of the store whose clips they are of ("" where it was not noted): simulated corpora share names
    store: str = ""
    parameters: int = 0  # numbers in the encoder's weights; 0: not known

    @property
    def mask(self) -> bool:
        """Return whether the folder also says which rows of the first axis are there."""
        return self.gives == "image"


class TokenWriter:
    """Writes a folder of tokens for a list of windows, shard by shard; finished shards survive a kill.

    `names` are the windows' clips, in the order in which the shards hold them, `starts` the label frames at which the
    windows begin (none: 0, one window a clip). A folder left by another spec or list is begun anew.
    """

    def __init__(
        self,
        folder: Path,
        spec: TokenSpec,
        names: Sequence[str],
        clips_per_shard: int | None = None,
        starts: Sequence[int] = (),
    ) -> None:
        self.starts = list(starts) if any(starts) else []
        if len(set(zip(names, self.starts or [0] * len(names), strict=True))) != len(names):
            raise ValueError("a window occurs twice among those of a token folder")
        clip_bytes = 2 * int(np.prod(spec.shape))
        self.folder, self.spec, self.names = folder, spec, tuple(names)
        self.clips_per_shard = clips_per_shard or max(1, SHARD_BYTES // clip_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        plan = json.dumps(self._description())
        plan_file = folder / "plan.json"
        if not plan_file.exists() or plan_file.read_text(encoding="utf-8") != plan:
            for old in [*folder.glob("*.npy"), folder / "tokens.json"]:
                old.unlink(missing_ok=True)
            write_bytes(plan_file, plan.encode())

    def pending(self) -> Iterator[tuple[int, range]]:
        """Yield (shard, numbers of its windows) of every shard that is not finished."""
        for shard in range(self.shards):
            if not (self.folder / f"shard-{shard:05d}.npy").exists():
                start = shard * self.clips_per_shard
                yield shard, range(start, min(start + self.clips_per_shard, len(self.names)))

    @property
    def shards(self) -> int:
        """Return the number of shards."""
        return -(-len(self.names) // self.clips_per_shard)

    def write(
        self, shard: int, tokens: npt.NDArray[Any], mirror: npt.NDArray[Any] | None = None, mask: Bools | None = None
    ) -> None:
        """Write one shard: tokens (clips, *shape), and the mirrored tokens and the mask where the spec has them."""
        start = shard * self.clips_per_shard
        count = len(self.names[start : start + self.clips_per_shard])
        parts = {"mirror": mirror, "mask": mask, "shard": tokens}
        for name, array in parts.items():
            expected = name == "shard" or bool(getattr(self.spec, name))
            if name == "mirror" and self.spec.mirror_by != "stored":
                expected = False
            if (array is not None) != expected:
                raise ValueError(
                    f"{name}: the spec says {expected}, the array is {'there' if not expected else 'missing'}"
                )
            if array is None:
                continue
            shape = (count, self.spec.shape[0]) if name == "mask" else (count, *self.spec.shape)
            if array.shape != shape:
                raise ValueError(f"{name} {shard}: expected shape {shape}, got {array.shape}")
            if name != "mask" and not np.isfinite(array := array.astype(np.float16)).all():
                raise ValueError(f"{name} {shard}: tokens beyond half precision's range or not numbers")
            # The shard itself comes last: its presence says that mirror and mask are there too.
            path = self.folder / f"{name}-{shard:05d}.npy"
            try:
                with whole_file(path) as part, part.open("wb") as stream:
                    np.save(stream, array, allow_pickle=False)
            except OSError as error:
                raise SeldError(
                    f"{path} cannot be written: {error}.", "Make room; finished shards are kept."
                ) from error

    def finish(self) -> None:
        """Write tokens.json; every shard must be there."""
        missing = [shard for shard, _ in self.pending()]
        if missing:
            raise ValueError(f"shards {listing(missing)} are not written")
        write_bytes(self.folder / "tokens.json", json.dumps(self._description(), indent=1).encode())

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            **asdict(self.spec),
            "clips_per_shard": self.clips_per_shard,
            "names": list(self.names),
            "starts": self.starts,
        }


Count = Annotated[int, Field(ge=1, le=2**31)]


class TokensJson(Facts):
    """The schema of tokens.json."""

    format: int
    names: list[str]
    clips_per_shard: Count
    starts: list[int] = Field(default=[])
    shape: list[Count] = Field(min_length=1, max_length=4)
    model: str
    fingerprint: str
    random_weights: bool
    name: str = "clap"
    gives: str = "sound"
    kind: str = "clap"
    mirror: bool = False
    mirror_by: str = "stored"
    encoder: dict[str, Any] | None = None
    store: str = ""
    parameters: int = 0


class TokenReader:
    """Reads a folder of tokens through memory maps; opened with `TokenReader.open(folder)`.

    Attributes:
        folder: the folder.
        spec: what the tokens are.
        names: the windows' clips.
        position: (clip, label frame at which the window begins) → row.
    """

    def __init__(
        self, folder: Path, spec: TokenSpec, names: Sequence[str], clips_per_shard: int, starts: Sequence[int] = ()
    ) -> None:
        self.folder, self.spec, self.names = folder, spec, tuple(names)
        self.clips_per_shard = clips_per_shard
        begins = starts or [0] * len(names)
        self.position = {window: index for index, window in enumerate(zip(names, begins, strict=True))}

    def __repr__(self) -> str:
        return f"TokenReader({str(self.folder)!r}, {self.spec.name}, {len(self.names):,} windows)"

    @staticmethod
    def open(folder: Path) -> TokenReader:
        """Return a reader of a finished folder.

        Raises:
            SeldError: the folder holds no finished tokens or another format.
        """
        path = folder / "tokens.json"
        if not path.is_file():
            raise SeldError(f"{folder} holds no finished tokens.", "Give the folder of an embed step.")
        try:
            data = read_json(path, TokensJson, "Give the folder of an embed step.")
            if not 1 <= data.pop("format") <= FORMAT:
                raise ValueError("another format version")
            names, size, starts = data.pop("names"), data.pop("clips_per_shard"), data.pop("starts", [])
            spec = TokenSpec(**{**old_formats.tokens_spec(data), "shape": tuple(data["shape"])})
            if starts and len(starts) != len(names):
                raise ValueError(f"{len(names)} names, {len(starts)} starts")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SeldError(
                f"{folder} holds no finished tokens ({error}).", "Give the folder of an embed step."
            ) from error
        return TokenReader(folder, spec, names, size, starts)

    def rows(self, names: Sequence[str], starts: Sequence[int] = ()) -> npt.NDArray[np.int64]:
        """Return the positions of windows, given by clips and the label frames at which they begin (none: 0).

        Raises:
            SeldError: names the windows that have no tokens.
        """
        windows = list(zip(names, starts or [0] * len(names), strict=True))
        missing = [window for window in windows if window not in self.position]
        if missing:
            told = [f"{name} from frame {start}" if start else name for name, start in missing]
            raise SeldError(
                f"{self.folder} has no {self.spec.name} tokens of {len(missing)} window(s): {listing(told)}.",
                "Run the embed step on the same store, with the hop_frames of the step that reads its tokens.",
            )
        return np.array([self.position[window] for window in windows], np.int64)

    def read(self, which: Sequence[str] | npt.NDArray[np.integer[Any]], mirror: bool = False) -> Float16:
        """Return (B, *shape) float16 of clips given by names or by positions; `mirror`: of the mirrored input."""
        if mirror and not self.spec.mirror:
            raise SeldError(
                f"{self.folder} has no {self.spec.name} tokens of mirrored input.",
                "Set `mirror: store` or `mirror: grid_flip` in the embed step, or augmentation by swap to 0.",
            )
        rows = self._positions(which)
        out = np.empty((len(rows), *self.spec.shape), np.float16)
        if mirror and self.spec.mirror_by == "grid_flip":
            return self._gather("shard", rows, out)[..., mirrored_order(self.spec.shape[-2]), :]
        return self._gather("mirror" if mirror else "shard", rows, out)

    def read_mask(self, which: Sequence[str] | npt.NDArray[np.integer[Any]]) -> Bools:
        """Return (B, shape[0]) bool: which rows of the clips' tokens are there."""
        rows = self._positions(which)
        out = np.ones((len(rows), self.spec.shape[0]), np.bool_)
        return self._gather("mask", rows, out) if self.spec.mask else out

    def _positions(self, which: Sequence[str] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        if isinstance(which, np.ndarray) and which.dtype.kind in "iu":
            return which.astype(np.int64)
        return self.rows([str(name) for name in which])

    def _gather(self, kind: str, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Fill `out` with rows of the shards; maps are opened anew, so that memory does not grow with what was read."""
        shards = rows // self.clips_per_shard
        for shard in np.unique(shards):
            path = self.folder / f"{kind}-{shard:05d}.npy"
            try:
                table = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError, SyntaxError, OverflowError) as error:
                raise SeldError(f"{path} cannot be read: {error}.", "Run the embed step again.") from error
            here = np.flatnonzero(shards == shard)
            last = int(rows[here].max()) - int(shard) * self.clips_per_shard
            if table.dtype != out.dtype or table.shape[1:] != out.shape[1:] or len(table) <= last:
                raise SeldError(f"{path} holds {table.shape} of {table.dtype}.", "Run the embed step again.")
            out[here] = table[rows[here] - shard * self.clips_per_shard]
        return out
