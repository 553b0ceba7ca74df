"""The official data set from its public record: resumable, checked, unpacked without trusting the paths in the zips."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from dcase_seld.core.errors import SeldError, listing, reason
from dcase_seld.core.files import whole_file
from dcase_seld.core.work import progress, say

RECORD = "https://zenodo.org/api/records/15559774"
"""The public record of the challenge's stereo data set, DOI 10.5281/zenodo.15559774."""

BLOCK = 2**20

TRIES = 5
"""Attempts at one file before giving up; each goes on where the last one broke off."""

UNPACKED = 1.1
"""Room that a zip of sound and video needs when unpacked, relative to its own size: they hardly compress."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of the record."""

    name: str  # file name
    size: int  # bytes
    md5: str | None  # checksum in hexadecimal, or None where the record gives none
    url: str  # address


def list_files(record: str = RECORD) -> list[RemoteFile]:
    """Return the files of a record. Raises SeldError: the record cannot be reached or read."""
    try:
        with _open(record) as response:
            data = json.loads(response.read(64 * BLOCK))
        return [_remote_file(entry) for entry in data["files"]]
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        raise SeldError(
            f"The record {record} cannot be read: {error}.", "Check the connection and the address, and try again."
        ) from error


def download(
    out: Path,
    *,
    record: str = RECORD,
    only: Sequence[str] = (),
    unpack: bool = True,
    keep_zips: bool = False,
    quiet: bool = False,
    pause_s: float = 2.0,
) -> list[str]:
    """Write the record's files into `out`, unpacked, and return their names; what is there already is kept.

    `only`: beginnings of file names, as "metadata_dev"; none: all. A pause between attempts (seconds) doubles each
    time. Raises SeldError: no such file, too little disk space, a wrong checksum, an unsafe zip, or no connection.
    """
    files = list_files(record)
    chosen = [file for file in files if not only or file.name.startswith(tuple(only))]
    missing = [name for name in only if not any(file.name.startswith(name) for file in files)]
    if missing or not chosen:
        raise SeldError(
            f"The record has no file that begins with {listing(missing) or 'anything'}.",
            f"It has {listing((file.name for file in files), 20)}.",
        )
    out.mkdir(parents=True, exist_ok=True)
    left = [file for file in chosen if not _mark(out, file).exists()]
    _check_room(out, left, unpack, keep_zips)
    for file in left:
        target = out / file.name
        _refuse_other(target, file.size)
        if not target.is_file():
            fetch(file, target, quiet=quiet, pause_s=pause_s)
        verify(target, file, quiet=quiet)
        if unpack and target.suffix == ".zip":
            unzip(target, out, quiet=quiet)
            if not keep_zips:
                target.unlink()
        _mark(out, file).write_text(f"{file.md5}\n", encoding="utf-8")
    return [file.name for file in chosen]


def fetch(file: RemoteFile, target: Path, *, quiet: bool = False, pause_s: float = 2.0) -> None:
    """Write a remote file to `target`; bytes of an earlier attempt (`.part`) are kept and not fetched again.

    Raises:
        SeldError: the connection broke too often, or the disk is full.
    """
    part = target.with_name(target.name + ".part")
    with progress(file.name, file.size, "bytes", quiet) as advance:
        shown = part.stat().st_size if part.exists() else 0
        advance(shown)
        for attempt in range(TRIES):
            try:
                _fetch_rest(file, part, advance)
                break
            except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
                if attempt == TRIES - 1:
                    raise SeldError(
                        f"{file.url} broke off {TRIES} times ({error}).", "The same command goes on from there."
                    ) from error
                time.sleep(pause_s * 2**attempt)
            except OSError as error:
                raise SeldError(
                    f"{part} cannot be written: {reason(error)}.", "Make room; what is there is kept."
                ) from error
    part.replace(target)


def verify(path: Path, file: RemoteFile, *, quiet: bool = False) -> None:
    """Check size and checksum of a downloaded file.

    Raises:
        SeldError: they differ; the file is renamed to `.broken`, so that the next attempt begins anew.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with progress(f"checking {file.name}", file.size, "bytes", quiet) as advance, path.open("rb") as stream:
        while block := stream.read(8 * BLOCK):
            digest.update(block)
            advance(len(block))
    size = path.stat().st_size
    if size != file.size or (file.md5 is not None and digest.hexdigest() != file.md5):
        broken = path.with_name(path.name + ".broken")
        path.replace(broken)
        raise SeldError(
            f"{file.name} is not what the record says: {size:,} bytes with MD5 {digest.hexdigest()}, "
            f"expected {file.size:,} with {file.md5}. It is kept as {broken.name}.",
            "Run the command again; it fetches the file anew.",
        )


def unzip(archive: Path, out: Path, *, quiet: bool = False) -> None:
    """Unpack a zip below `out`; files that are there with the right size are kept.

    An archive whose entries are not inside a folder of its name is unpacked into such a folder. Raises SeldError: the
    zip is broken, an entry would land outside `out` or is a link, or the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            entries = [entry for entry in content.infolist() if not entry.is_dir()]
            for entry in entries:
                _refuse_unsafe(entry, archive)
            _refuse_too_large(entries, archive, out)
            own = all(PurePosixPath(entry.filename).parts[0] == archive.stem for entry in entries)
            base = out if own else out / archive.stem
            for entry in entries:
                _refuse_other(base / entry.filename, entry.file_size)
            with progress(f"unpacking {archive.name}", len(entries), "files", quiet) as advance:
                for entry in entries:
                    _extract(content, entry, base)
                    advance()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise SeldError(
            f"{archive} cannot be unpacked: {error}.",
            "Remove it and download it again; an archive in several parts needs a program such as 7-Zip.",
        ) from error
    except OSError as error:
        raise SeldError(f"{archive} cannot be unpacked: {error}.", "Make room; unpacked files are kept.") from error


def _remote_file(entry: dict[str, Any]) -> RemoteFile:
    kind, _, checksum = str(entry.get("checksum", "")).partition(":")
    name = str(entry["key"])
    if PurePosixPath(name).name != name or name.startswith("."):
        raise ValueError(f"the file name {name!r} is unsafe")
    links = entry.get("links", {})
    url = links.get("content") or links["self"]
    return RemoteFile(name, int(entry["size"]), checksum if kind == "md5" else None, str(url))


def _open(url: str, first: int = 0) -> Any:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no web address")
    headers = {"User-Agent": "dcase-seld", **({"Range": f"bytes={first}-"} if first else {})}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)


def _fetch_rest(file: RemoteFile, part: Path, advance: Callable[..., None]) -> None:
    """Append to `part` what is missing."""
    first = part.stat().st_size if part.exists() else 0
    if first > file.size:
        part.unlink()
        first = 0
    if first == file.size and file.size:
        return
    with _open(file.url, first) as response:
        # 206: the server goes on where we are; anything else sends the whole file.
        resumed = first > 0 and response.status == 206
        with part.open("ab" if resumed else "wb") as stream:
            if first and not resumed:
                advance(-first)
            while block := response.read(BLOCK):
                stream.write(block)
                advance(len(block))
    if part.stat().st_size < file.size:
        raise ConnectionError(f"{part.stat().st_size:,} of {file.size:,} bytes came")


def _check_room(out: Path, files: Sequence[RemoteFile], unpack: bool, keep_zips: bool) -> None:
    """Refuse to begin what the disk cannot hold: all unpacked, and the zips (the largest one if they are removed)."""
    needed = 0.0
    for file in files:
        part, whole = out / f"{file.name}.part", out / file.name
        there = next((path.stat().st_size for path in (whole, part) if path.exists()), 0)
        is_zip = file.name.endswith(".zip") and unpack
        needed += (file.size * UNPACKED if is_zip else 0.0) + (file.size - there if keep_zips or not is_zip else 0)
    if unpack and not keep_zips:
        needed += max((file.size for file in files if file.name.endswith(".zip")), default=0)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise SeldError(
            f"{out} has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed.",
            "Choose another disk with --out, or a part of the files with --only.",
        )
    say(f"{len(files)} files, {sum(f.size for f in files) / 1e9:.2f} GB to fetch; {free / 1e9:.0f} GB free.")


def _mark(out: Path, file: RemoteFile) -> Path:
    """Return the file whose presence says that a remote file was checked and unpacked."""
    return out / f".{file.name}.done"


def _refuse_unsafe(entry: zipfile.ZipInfo, archive: Path) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or link:
        what = "is a link" if link else "lies outside the folder"
        raise SeldError(f"{archive}: the entry {entry.filename!r} {what}.", "Do not use this file.")


def _refuse_other(target: Path, size: int) -> None:
    """Refuse to replace a file of another size: files are written whole, so somebody has changed it."""
    if target.is_file() and target.stat().st_size != size:
        raise SeldError(
            f"{target} is there already and is another file: {target.stat().st_size:,} bytes, {size:,} are expected.",
            "Move it away, or choose another --out.",
        )


def _refuse_too_large(entries: Sequence[zipfile.ZipInfo], archive: Path, out: Path) -> None:
    needed, free = sum(entry.file_size for entry in entries), shutil.disk_usage(out).free
    if needed > free:
        raise SeldError(
            f"{archive} unpacks to {needed / 1e9:.1f} GB; {out} has {free / 1e9:.1f} GB free.", "Make room."
        )


def _extract(content: zipfile.ZipFile, entry: zipfile.ZipInfo, base: Path) -> None:
    target = base / entry.filename
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as part, content.open(entry) as source, part.open("wb") as stream:
        shutil.copyfileobj(source, stream, BLOCK)
