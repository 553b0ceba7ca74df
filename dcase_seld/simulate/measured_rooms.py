"""Rooms that were measured: impulse responses from SOFA files, or from stereo and first-order wav files with a table.

A folder's `responses.csv` (columns file, azimuth, elevation, distance and, optionally, room; degrees and metres) says
where the source of every wav stood. SOFA files carry their positions themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.errors import SeldError
from dcase_seld.core.reading import read_table
from dcase_seld.core.task import SAMPLE_RATE
from dcase_seld.simulate.config import SoundsConfig

TABLE = "responses.csv"

SPEED_OF_SOUND = 343.0

DIRECT_S = 0.0025
"""The direct sound's energy is taken from so many seconds after its arrival."""

LONGEST_S = 2.0
"""Responses are cut here, in seconds."""

MOST_PLACES = 400
"""A SOFA file with more source positions is thinned out evenly to this many."""

Response = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MeasuredRoom:
    """A place with impulse responses measured from several source positions to one microphone."""

    name: str  # file or room name
    places_m: npt.NDArray[np.float64]  # (P, 3) source positions around the microphone at `microphone_m`
    # P arrays (channels, S) at 24 kHz: W, Y or W, Y, Z, X; the direct sound arrives after distance / c
    responses: tuple[Response, ...]
    size_m: tuple[float, float, float]  # a box around everything, for the picture of the room
    microphone_m: tuple[float, float, float]  # where the microphone is in that box
    notes: tuple[str, ...] = ()  # what was mended

    def response_at(self, place_m: npt.NDArray[np.float64], channels: int) -> Response:
        """Return the response (channels, S) measured nearest to a place.

        Raises:
            SeldError: the room was measured in stereo and first-order Ambisonics is asked for.
        """
        found = self.responses[int(np.linalg.norm(self.places_m - place_m, axis=1).argmin())]
        if len(found) < channels:
            raise SeldError(
                f"The responses of {self.name} are stereo; the set is to be written as first-order Ambisonics.",
                "Give responses with 4 channels (W, Y, Z, X), or write stereo.",
            )
        return found[:channels]


def load_rooms(folder: Path) -> list[MeasuredRoom]:
    """Return the measured rooms in a folder (or one SOFA file), ordered by name.

    Raises:
        SeldError: nothing usable is there, a file is broken or has an unexpected number of channels.
    """
    if folder.is_file():
        return [_sofa_room(folder)]
    if not folder.is_dir():
        raise SeldError(f"The responses folder {folder} does not exist.", "Give a folder of SOFA or wav files.")
    rooms = [_sofa_room(path) for path in sorted(folder.glob("*.sofa"))]
    if (folder / TABLE).is_file():
        rooms += _table_rooms(folder)
    if not rooms:
        raise SeldError(
            f"{folder} holds no measured room: expected *.sofa files, or wav files and {TABLE}.",
            f"Write {TABLE} with the columns file,azimuth,elevation,distance,room.",
        )
    return rooms


def divide_rooms(rooms: Sequence[MeasuredRoom], sounds: SoundsConfig) -> dict[str, list[MeasuredRoom]]:
    """Return the measured rooms of every split: one room trains, of two one tests, of three one validates."""
    order = [rooms[i] for i in np.random.default_rng([sounds.split_seed, 7]).permutation(len(rooms))]
    tests = max(1, round(sounds.test_fraction * len(order))) if len(order) > 1 and sounds.test_fraction else 0
    validations = max(1, round(sounds.validation_fraction * len(order))) if len(order) > 2 else 0
    return {"test": order[:tests], "val": order[tests : tests + validations], "train": order[tests + validations :]}


def measured_room(rooms: Sequence[MeasuredRoom], number: int, share: float | None) -> MeasuredRoom | None:
    """Return which measured room is room `number` of a split, or None where that one is simulated.

    `share`: of the split's rooms that are measured, spread evenly; None: the first ones, each once.
    """
    if share is None or not rooms:
        return rooms[number] if number < len(rooms) else None
    before = int(number * share + 1e-9)
    return rooms[before % len(rooms)] if int((number + 1) * share + 1e-9) > before else None


def _sofa_room(path: Path) -> MeasuredRoom:
    """Return the room of a SOFA file. Source of the layout: AES69."""
    import h5py

    from dcase_seld.media.audio import resample_audio

    try:
        with h5py.File(path, "r") as file:
            responses = np.asarray(file["Data.IR"], dtype=np.float32)
            rate = int(np.ravel(file["Data.SamplingRate"])[0])
            position = np.atleast_2d(np.asarray(file["SourcePosition"], dtype=np.float64))
            kind = _text(file["SourcePosition"].attrs.get("Type", "spherical"))
            listener = np.atleast_2d(np.asarray(file["ListenerPosition"], dtype=np.float64))[0]
    except (OSError, KeyError, ValueError) as error:
        raise SeldError(
            f"{path} is no SOFA file of impulse responses: {error}.", "Give a readable SOFA file."
        ) from error
    if responses.ndim != 3 or responses.shape[1] not in (2, 4):
        raise SeldError(
            f"{path} holds responses of shape {responses.shape}; expected (positions, 2 or 4 receivers, samples).",
            "Give stereo (left, right) or first-order (W, Y, Z, X) responses.",
        )
    position = np.broadcast_to(position, (len(responses), 3))
    places = position - listener if kind.startswith("cart") else _cartesian(*position.T)
    chosen = np.unique(np.linspace(0, len(responses) - 1, min(len(responses), MOST_PLACES)).round().astype(int))
    sounds = [resample_audio(responses[i], rate, SAMPLE_RATE) if rate != SAMPLE_RATE else responses[i] for i in chosen]
    return _room(path.stem, places[chosen], sounds)


def _table_rooms(folder: Path) -> list[MeasuredRoom]:
    from dcase_seld.media.audio import read_audio

    table = folder / TABLE
    rows = read_table(table, "Write a CSV file.")[1]
    grouped: dict[str, list[tuple[npt.NDArray[np.float64], Response]]] = defaultdict(list)
    for line, row in rows:
        try:
            direction, file = [float(row[name]) for name in ("azimuth", "elevation", "distance")], folder / row["file"]
        except (KeyError, TypeError, ValueError):
            raise SeldError(
                f"{table}, line {line}: expected file,azimuth,elevation,distance as a name and three numbers.",
                "Azimuth and elevation in degrees (left and up are positive), distance in metres.",
            ) from None
        sound = read_audio(file, channels=None, resample=True)
        if len(sound) not in (2, 4):
            raise SeldError(
                f"{file} has {len(sound)} channel(s); responses have 2 or 4.",
                "Two are left, right; four are W, Y, Z, X; mono responses carry no direction: leave them out.",
            )
        grouped[row.get("room") or "room"].append((_cartesian(*np.asarray(direction)[:, None])[0], sound))
    return [_room(name, np.stack([p for p, _ in found]), [s for _, s in found]) for name, found in grouped.items()]


def _room(name: str, places: npt.NDArray[np.float64], sounds: Sequence[Response]) -> MeasuredRoom:
    """Return a room with its responses in W, Y(, Z, X), aligned, the direct sound about 1 at 1 m."""
    distance = np.linalg.norm(places, axis=1)
    if not np.all(distance > 0):
        raise SeldError(f"{name} has a source at the microphone itself.", "Give distances above 0.")
    ready, direct, side = [], [], []
    for sound, metres in zip(sounds, distance, strict=True):
        field = np.stack([(sound[0] + sound[1]) / 2, (sound[0] - sound[1]) / 2]) if len(sound) == 2 else sound
        loud = np.abs(field[0]) > 0.3 * np.abs(field[0]).max(initial=1e-12)
        onset = int(loud.argmax())
        shift = round(metres / SPEED_OF_SOUND * SAMPLE_RATE) - onset
        field = np.pad(field, ((0, 0), (shift, 0))) if shift >= 0 else field[:, -shift:]
        arrival = max(0, onset + shift - 8)
        heard = field[:2, arrival : arrival + round(DIRECT_S * SAMPLE_RATE)]
        direct.append(float(np.square(heard[0]).sum()) * metres**2)
        side.append(float((heard[0] * heard[1]).sum() / max(float(np.square(heard).sum()), 1e-12)))
        ready.append(field[:, : round(LONGEST_S * SAMPLE_RATE)])
    places, notes = _check_sides(name, places, np.asarray(side))
    gain = np.float32(1.0 / np.sqrt(max(float(np.median(direct)), 1e-12)))
    reach = np.abs(places).max(axis=0) + 1.5
    size = (2.0 * float(reach[0]), 2.0 * float(reach[1]), max(2.6, 1.5 + float(places[:, 2].max()) + 0.5))
    middle = np.asarray([size[0] / 2, size[1] / 2, max(1.5, 0.3 - float(places[:, 2].min()))])
    return MeasuredRoom(
        name,
        places + middle,
        tuple(np.ascontiguousarray(field * gain, dtype=np.float32) for field in ready),
        size,
        (float(middle[0]), float(middle[1]), float(middle[2])),
        notes,
    )


def _check_sides(
    name: str, places: npt.NDArray[np.float64], side: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return places on the side that is heard, and a note if the file's azimuths were clockwise (several are).

    Args:
        name: of the room.
        places: (P, 3) as the file says.
        side: (P,) share of W and Y in common in the direct sound: positive where the left is louder.
    """
    left = places[:, 1] / np.linalg.norm(places, axis=1)
    if len(places) < 5 or np.ptp(left) < 0.5 or np.std(side) < 1e-3 or np.corrcoef(left, side)[0, 1] > -0.5:
        return places, ()
    note = f"{name}: what is said to be left is louder on the right, so its azimuths are taken as clockwise"
    return places * np.asarray([1.0, -1.0, 1.0]), (note,)


def _cartesian(azimuth_deg: Any, elevation_deg: Any, distance_m: Any) -> npt.NDArray[np.float64]:
    azimuth, elevation = np.radians(azimuth_deg), np.radians(elevation_deg)
    ground = distance_m * np.cos(elevation)
    return np.stack([ground * np.cos(azimuth), ground * np.sin(azimuth), distance_m * np.sin(elevation)], axis=1)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
