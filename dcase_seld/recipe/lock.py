"""One process per result folder: a lock file that says who holds it, and is taken over when its holder is dead."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dcase_seld.errors import SeldError


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: process id.
        host: the machine's name.
        born: start of the process in clock ticks since boot ("" where the system does not tell): ids are used again.
        since: when it was taken, local time.
    """

    pid: int
    host: str
    born: str
    since: str

    def alive(self) -> bool:
        """Return whether the process still runs; on another machine nobody can tell, so yes."""
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return not self.born or _born(self.pid) in ("", self.born)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `<folder>.lock` while the block runs.

    Raises:
        SeldError: another living process holds it; says which.
    """
    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    me = Holder(os.getpid(), socket.gethostname(), _born(os.getpid()), time.strftime("%Y-%m-%d %H:%M:%S"))
    with _guard(path.parent):
        holder = held_by(folder)
        if holder is not None:
            raise SeldError(
                f"{folder.name} is being made by process {holder.pid} on {holder.host} since {holder.since}.",
                f"Wait for it or stop it; if it is surely gone, remove {path}.",
            )
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(asdict(me)), encoding="utf-8")
        part.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def held_by(folder: Path) -> Holder | None:
    """Return the living process that holds a folder, or None."""
    try:
        holder = Holder(**json.loads(lock_path(folder).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):  # unreadable: written by nobody who still runs
        return None
    return holder if holder.alive() else None


def lock_path(folder: Path) -> Path:
    """Return the lock file of a result folder: beside it, so that the folder holds results only."""
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look at and take locks; the kernel frees it when a process dies."""
    try:
        import fcntl
    except ImportError:  # no such call on this system: the gap between look and take is microseconds
        yield
        return
    with (folder / ".guard").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _born(pid: int) -> str:
    try:
        # The name in brackets may hold spaces; the start time is the 20th word after it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
