"""The device that a stage works on, the memory it keeps on a CPU, and processes where there are several devices."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessRaisedException

from dcase_seld.core.config import cache_folder
from dcase_seld.core.errors import SeldError, is_disk_full
from dcase_seld.core.files import write_json
from dcase_seld.core.work import core_count, launcher_rank, say
from dcase_seld.model.frontend import leave_uncompiled

if TYPE_CHECKING:
    from lightning_fabric import Fabric

if "OMP_NUM_THREADS" not in os.environ and core_count() < torch.get_num_threads():
    # PyTorch counts the cores that it sees. Where a container or SLURM leaves fewer its threads take turns on them, and
    # wait for each other most of the time.
    torch.set_num_threads(core_count())


def single_device(name: str) -> torch.device:
    """Return the torch device of a --device option: auto (CUDA where there is some, else the CPU), cpu, cuda, cuda:1.

    Raises:
        SeldError: this machine has no such device, or it is an Apple GPU, which knows no numbers of 64 bits.
    """
    if name.startswith("mps"):
        problem = f"The device {name[:40]!r} is not to be had: Apple's GPUs lack numbers of 64 bits, which are needed."
        raise SeldError(problem, "Use cpu, or auto.")
    counts = {"cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0, "cpu": 1}
    there = [kind for kind, count in counts.items() if count]
    kind, colon, number = (there[0] if name == "auto" else name).partition(":")
    kind = {"gpu": "cuda"}.get(kind, kind)
    known = re.fullmatch(r"[0-9]{1,3}", number) if colon else True
    if not known or int(number or 0) >= counts.get(kind, 0):
        names = (f"cuda:0 … cuda:{counts[kind] - 1}" if counts[kind] > 1 else kind for kind in there)
        raise SeldError(
            f"The device {name[:40]!r} is not to be had on this machine.", f"Choose {', '.join(names)} or auto."
        )
    return torch.device(kind, int(number)) if number and kind == "cuda" else torch.device(kind)


TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Numbers of glibc's settings, as in its malloc.h."""

CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep what is freed in this block for what is asked for next; at its end all goes back to the system.

    glibc maps every block of some size anew, and the system clears its pages one by one: for the activations of a small
    network on a CPU that takes a third of each update and half of a prediction. The price is a higher peak of memory,
    since a heap has gaps. Where there is no glibc, or the environment sets one of CHOSEN_BY_USER, nothing is changed.
    Blocks do not nest: the end of the inner one would end both.
    Source: mallopt(3); 65536, 32 MiB and 64 MiB are what glibc's own adjustment reaches at most.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "malloc_trim") or set(CHOSEN_BY_USER) & os.environ.keys():
        yield
        return
    library.mallopt(MMAP_MAX, 0)
    library.mallopt(TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        library.mallopt(MMAP_MAX, 65536)
        library.mallopt(MMAP_THRESHOLD, 32 * 2**20)
        library.mallopt(TRIM_THRESHOLD, 64 * 2**20)
        library.malloc_trim(0)


@contextmanager
def pytorch_threads(count: int) -> Iterator[None]:
    """Let PyTorch compute with `count` threads in this block, in each thread that is started in it too."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def chosen_kernels(deterministic: bool) -> Iterator[None]:
    """Use only kernels that give the same bits each time in this block, where that is asked for."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        # cuBLAS reads this when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def compile_network(network: nn.Module, quiet: bool, graphs: bool = False) -> None:
    """Let the network's kernels be fused when it first runs; what was compiled is kept for later trainings.

    With `graphs` a CUDA device records a pass' kernels once and replays them: inputs must keep their shape, and what a
    pass gave is overwritten by the next one, which `torch.compiler.cudagraph_mark_step_begin` announces.
    """
    # PyTorch sets this itself when Fabric imports its compiler, to a folder of temporary files, gone after a restart.
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "torchinductor_")
    if Path(folder).name.startswith("torchinductor_"):
        folder = os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder() / "compiled")
    if not quiet:
        found = "those of earlier trainings are there" if Path(folder).is_dir() else "none are there yet: minutes"
        say(f"compiling: the first updates take longer; fused kernels are kept in {folder} ({found})")
    leave_uncompiled()
    network.compile(mode="reduce-overhead" if graphs else None)


def open_fabric(device: str, devices: int, nodes: int, precision: str = "32-true") -> Fabric:
    """Return Lightning Fabric, not yet launched; several devices without torchrun or SLURM become processes of our own.

    Raises:
        SeldError: the device is not to be had, one device is named and several are asked for, or several machines are
            named and no launcher started this process.
    """
    # Fabric takes as long to import as PyTorch, and what predicts has no need of it.
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it repeats what was asked for
    place = torch.device("cpu") if device == "cpu" else single_device(device)
    if place.index is not None and devices * nodes > 1:
        raise SeldError(
            f"The device {device!r} is one device; devices is {devices} and nodes {nodes}.",
            f"Use --device {place.type}, or set devices and nodes to 1.",
        )
    if place.type == "cuda" and devices > torch.cuda.device_count():
        raise SeldError(
            f"devices is {devices}; this machine has {torch.cuda.device_count()}.", "Set devices to what is there."
        )
    launched = launcher_rank() is not None
    if nodes > 1 and not launched:
        raise SeldError(
            f"nodes is {nodes}, but this process was started neither by torchrun nor by SLURM.",
            "Start the same command on every node with torchrun or srun, or set nodes to 1.",
        )
    strategy = "auto" if devices * nodes == 1 else "ddp" if launched else "ddp_spawn"
    try:
        return Fabric(
            accelerator={"cuda": "gpu"}.get(place.type, place.type),
            strategy=strategy,
            devices=devices if place.index is None else [place.index],
            num_nodes=nodes,
            precision=precision,  # type: ignore[arg-type]
        )
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise SeldError(f"The device {device!r} cannot be used: {error}.", "Use --device cpu.") from error


def launch(fabric: Fabric, work: Callable[[Fabric], None], out: Path) -> None:
    """Run `work(fabric)` in this process, or in one process per device.

    Raises:
        SeldError: what `work` raised, in whichever process.
    """
    note = out / "error.json"
    note.unlink(missing_ok=True)
    try:
        fabric.launch(_Guarded(work, out, note))
    except ProcessRaisedException as error:
        if note.is_file():
            raise SeldError(**json.loads(note.read_text(encoding="utf-8"))) from error
        raise


class _Guarded:
    """Runs the work; writes a SeldError to a file before it is lost with its process; names a full disk as such."""

    def __init__(self, work: Callable[[Fabric], None], out: Path, note: Path) -> None:
        self.work, self.out, self.note = work, out, note

    def __call__(self, fabric: Fabric) -> None:
        try:
            self.work(fabric)
        except SeldError as error:
            if fabric.world_size > 1:
                self._write(error, fabric.global_rank)
            raise
        except Exception as error:
            if not is_disk_full(error):
                raise
            told = SeldError(
                f"The disk is full: the training in {self.out} cannot go on; its last checkpoint is intact.",
                "Free some space and run the same command again: it goes on from that checkpoint.",
            )
            if fabric.world_size > 1:
                self._write(told, fabric.global_rank)
            raise told from error

    def _write(self, error: SeldError, rank: int) -> None:
        write_json(self.note, {"problem": error.problem, "remedy": error.remedy})
