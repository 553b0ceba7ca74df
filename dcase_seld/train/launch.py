"""Starts a training in one process or in several, and brings a process' SeldError home as the same sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessRaisedException

from dcase_seld.errors import SeldError
from dcase_seld.train.folders import is_disk_full


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
        temporary = self.note.with_suffix(f".{rank}.part")
        temporary.write_text(json.dumps({"problem": error.problem, "remedy": error.remedy}), encoding="utf-8")
        temporary.replace(self.note)
