"""Simulated rooms: what a coincident first-order microphone hears of a source somewhere in a shoebox.

The early part is made of image sources (J. B. Allen, D. A. Berkley, 1979); each arrives with the gains of its direction
in W, Y, Z and X (ACN order, X to the front, Y to the left, SN3D). The late part is a diffuse field: independent noises
that decay as the room does, of power 1 in W and 1/3 in Y, Z and X. So the left and right cardioids L = W + Y and
R = W - Y of the late part correlate with (1 - 1/3) / (1 + 1/3) = 0.5, as in a real diffuse room.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dcase_seld.core.geometry import GEOMETRIES
from dcase_seld.core.task import SAMPLE_RATE
from dcase_seld.simulate.config import RoomsConfig
from dcase_seld.simulate.measured_rooms import MeasuredRoom
from dcase_seld.simulate.synthesis import decay_in_bands, join_bands

SPEED_OF_SOUND = 343.0

MATERIALS = {
    "brickwork": (0.01, 0.02, 0.02, 0.03, 0.03, 0.04),
    "rough_concrete": (0.02, 0.03, 0.03, 0.03, 0.04, 0.07),
    "plasterboard": (0.15, 0.1, 0.06, 0.04, 0.04, 0.05),
    "gypsum_board": (0.3, 0.69, 1.0, 0.81, 0.66, 0.62),
    "wooden_lining": (0.27, 0.23, 0.22, 0.15, 0.1, 0.07),
    "glass_window": (0.1, 0.05, 0.04, 0.03, 0.03, 0.03),
    "double_glazing_10mm": (0.1, 0.07, 0.05, 0.03, 0.02, 0.02),
    "curtains_fabric": (0.1, 0.38, 0.63, 0.52, 0.55, 0.65),
    "blinds_half_open": (0.03, 0.09, 0.24, 0.46, 0.79, 0.76),
    "ceiling_plasterboard": (0.2, 0.15, 0.1, 0.08, 0.04, 0.02),
    "ceiling_fissured_tile": (0.49, 0.53, 0.53, 0.75, 0.92, 0.99),
    "marble_floor": (0.01, 0.01, 0.01, 0.02, 0.02, 0.02),
    "linoleum_on_concrete": (0.02, 0.03, 0.03, 0.03, 0.03, 0.02),
    "stage_floor": (0.1, 0.07, 0.06, 0.06, 0.06, 0.06),
    "carpet_cotton": (0.07, 0.31, 0.49, 0.81, 0.66, 0.54),
    "carpet_thin": (0.02, 0.04, 0.08, 0.2, 0.35, 0.4),
    "carpet_hairy": (0.11, 0.14, 0.37, 0.43, 0.27, 0.25),
}
"""Energy absorption in the six octave bands. Source: M. Vorländer, Auralization, 2008, by pyroomacoustics' names."""

_MATERIALS = list(MATERIALS)

SURFACES = {
    "walls": _MATERIALS[:9],
    "ceiling": ["plasterboard", "rough_concrete", "ceiling_plasterboard", "ceiling_fissured_tile", "wooden_lining"],
    "floor": _MATERIALS[11:],
}

BEAM = np.asarray([0.1, 0.2, 0.4, 0.6, 0.8, 1.0])
"""How directed a source that faces a way is in each octave band, of a cardioid."""

SINC_HALF = 8
"""Half length in samples of the windowed sinc that puts an image between two samples."""

FADE_S = 0.012
"""Length in seconds of the cross-fade from image sources to the diffuse part."""

LONGEST_TAIL_S = 2.0
"""The diffuse part is cut here, in seconds."""

TAILS = 5
"""Diffuse fields kept for a room: the late part hardly depends on the place, its noise may recur."""

MARGIN_M = 0.3
"""Nothing is nearer to a wall than this."""

STEEPEST = float(np.sin(np.radians(50.0)))
"""Sine of the largest elevation of a source, up or down."""

Floats = npt.NDArray[np.float64]

Response = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Room:
    """A shoebox room with a microphone that looks along +x."""

    size_m: tuple[float, float, float]  # length (x), width (y) and height (z)
    # (6 walls west, east, south, north, floor, ceiling; 6 octave bands) energy absorption
    absorption: tuple[tuple[float, ...], ...]
    rt60_s: tuple[float, ...]  # (6,) reverberation time of each octave band in seconds
    microphone_m: tuple[float, float, float]  # (3,) position
    reflections: int  # image-source order

    @property
    def volume_m3(self) -> float:
        """Return the volume in cubic metres."""
        return float(np.prod(self.size_m))


def sample_room(config: RoomsConfig, rng: np.random.Generator) -> Room:
    """Return a room of random size, materials, reverberation time and microphone place."""
    sides = sorted((rng.uniform(*config.length_m), rng.uniform(*config.width_m)), reverse=True)
    size = np.asarray([*(sides if rng.random() < 0.5 else sides[::-1]), rng.uniform(*config.height_m)])
    shape = np.stack(
        [_absorption("walls", rng) for _ in range(4)] + [_absorption(k, rng) for k in ("floor", "ceiling")]
    )
    target = float(rng.uniform(*config.rt60_s))
    # The materials give the colour of the decay; their amount is scaled until the room has the wanted reverberation.
    low, high = 0.02, 50.0
    for _ in range(40):
        scale = np.sqrt(low * high)
        low, high = (low, scale) if _rt60(size, _scaled(shape, scale))[3] < target else (scale, high)
    absorption = _scaled(shape, scale)
    place = size * np.asarray([*rng.uniform(0.25, 0.75, 2), 0.0])
    place[2] = min(float(rng.uniform(1.1, 1.7)), size[2] - MARGIN_M)
    return Room(
        (float(size[0]), float(size[1]), float(size[2])),
        tuple(tuple(float(a) for a in wall) for wall in absorption),
        tuple(float(t) for t in _rt60(size, absorption)),
        (float(place[0]), float(place[1]), float(place[2])),
        config.reflections,
    )


AnyRoom = Room | MeasuredRoom


def sample_source(
    room: AnyRoom, config: RoomsConfig, rng: np.random.Generator, height_m: tuple[float, float] | None = None
) -> Floats:
    """Return a source position (3,): every azimuth alike, distances as far as the walls allow; or a measured one.

    Heights above the floor are from `height_m`, or from the config where it is None, unless it names elevations.
    """
    if isinstance(room, MeasuredRoom):
        return np.asarray(room.places_m[int(rng.integers(len(room.places_m)))])
    if config.elevation_deg is not None:
        return _at_elevation(room, config, config.elevation_deg, rng)
    microphone, (nearest, farthest) = room.microphone_m, config.distance_m
    heights = height_m or config.source_height_m
    low, high = (MARGIN_M, MARGIN_M, min(MARGIN_M, heights[0])), [side - MARGIN_M for side in room.size_m]
    beside = microphone[0] + nearest, *microphone[1:]
    best, best_miss = tuple(min(max(x, MARGIN_M), most) for x, most in zip(beside, high, strict=True)), math.inf
    for _ in range(200):
        azimuth, distance = rng.uniform(-np.pi, np.pi), rng.uniform(nearest, farthest)
        height = min(rng.uniform(*heights), high[2])
        if abs(rise := height - microphone[2]) >= distance * STEEPEST:
            continue
        ground = math.sqrt(distance**2 - rise**2)
        point = microphone[0] + ground * math.cos(azimuth), microphone[1] + ground * math.sin(azimuth), height
        inside = tuple(min(max(x, least), most) for x, least, most in zip(point, low, high, strict=True))
        miss = max(abs(x - y) for x, y in zip(inside, point, strict=True))
        # A place right at the microphone has no direction.
        if miss < best_miss and math.dist(inside, microphone) >= 0.8 * nearest:
            best, best_miss = inside, miss
        if miss == 0.0:
            return np.asarray(point)
    return np.asarray(best)


def _at_elevation(room: Room, config: RoomsConfig, span_deg: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Return a source position (3,) in a direction drawn first, so that walls and ceiling shorten distances alone."""
    microphone, (nearest, farthest) = np.asarray(room.microphone_m), config.distance_m
    best, longest = np.zeros(3), 0.0
    for _ in range(50):
        ray = GEOMETRIES["sphere"].to_vector(rng.uniform(-180.0, 180.0), rng.uniform(*span_deg))
        free = np.where(ray > 0, np.asarray(room.size_m) - MARGIN_M, MARGIN_M) - microphone
        reach = float((free / np.where(ray == 0, 1e-12, ray)).min())
        if reach >= nearest:
            return np.asarray(microphone + rng.uniform(nearest, min(reach, farthest)) * ray)
        best, longest = (ray, reach) if reach > longest else (best, longest)
    return np.asarray(microphone + longest * best)


def direction(room: AnyRoom, source_m: Floats) -> tuple[float, float, float]:
    """Return true azimuth (degrees, positive left, ±180 behind), elevation (degrees) and distance (metres)."""
    azimuth, elevation, distance = map(float, directions(room, source_m))
    return azimuth, elevation, distance


def directions(room: AnyRoom, sources_m: Floats) -> tuple[Floats, Floats, Floats]:
    """Return what `direction` does of sources (..., 3), each (...)."""
    x, y, z = np.moveaxis(sources_m - np.asarray(room.microphone_m), -1, 0)
    ground = np.hypot(x, y)
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, ground)), np.hypot(ground, z)


def early_responses(
    room: Room, sources_m: Floats, channels: int, facing: Floats | None = None
) -> list[tuple[Response, float]]:
    """Return of every source the image sources' part (channels, S) and when the diffuse part takes over, in seconds.

    Channels are W, Y (2) or W, Y, Z, X (4); amplitudes fall with 1/r and are 1 at 1 m.

    Args:
        room: the room.
        sources_m: (P, 3) positions.
        channels: 2 or 4.
        facing: (P, 3) the way that each source faces, of a length from 0 (it radiates alike to all sides) to 1 (from
            nearly all round at low frequencies to a cardioid at high ones); None: 0. Its power stays what it is.
    """
    images, damping = _images(room, sources_m)
    offset = images - np.asarray(room.microphone_m)
    distance = np.maximum(np.sqrt(np.einsum("pij,pij->pi", offset, offset)), 0.1)
    # The field mixes after about as many milliseconds as the root of the volume, twice that to be safe.
    mixing_s = distance.min(axis=1) / SPEED_OF_SOUND + max(0.02, 0.002 * np.sqrt(room.volume_m3))
    source, image = np.nonzero(distance < SPEED_OF_SOUND * (mixing_s + FADE_S)[:, None])
    offset, distance, damping = offset[source, image], distance[source, image], damping[:, image]
    delay, unit = distance / SPEED_OF_SOUND, offset / distance[:, None]
    if facing is not None:
        damping = damping * _beam(_reflections(room.reflections)[image], unit, facing[source])
    gains = np.stack([np.ones(len(unit)), unit[:, 1], unit[:, 2], unit[:, 0]][:channels])
    fade = np.cos(0.5 * np.pi * np.clip((delay - mixing_s[source]) / FADE_S, 0.0, 1.0))
    weights = (damping[:, None] * (gains * (fade / distance))).reshape(-1, len(source), 1)
    position = delay * SAMPLE_RATE
    whole = np.floor(position)
    # A windowed sinc around each arrival: sines and cosines of one number per image, and what a whole sample adds.
    part, taps = np.maximum(position - whole, 1e-20)[:, None], np.arange(1 - SINC_HALF, 1 + SINC_HALF)
    signs, angle, turn = 1.0 - 2.0 * (taps % 2), np.pi * part / SINC_HALF, np.pi * taps / SINC_HALF
    window = 0.5 + 0.5 * (np.cos(angle) * np.cos(turn) + np.sin(angle) * np.sin(turn))
    kernel = np.sin(np.pi * part) * signs / (np.pi * (part - taps)) * window
    lengths = ((mixing_s + FADE_S) * SAMPLE_RATE).astype(np.int64) + 2 * SINC_HALF + 2
    longest, shape = int(lengths.max()), (len(damping), channels, len(lengths), -1)
    place = np.clip(whole.astype(np.int64)[:, None] + taps, 0, lengths[source, None] - 1)
    index, count = (place + longest * source[:, None]).ravel(), longest * len(lengths)
    bands = [np.bincount(index, (one * kernel).ravel(), count).astype(np.float32) for one in weights]
    trains = np.stack(bands).reshape(shape)
    early = [join_bands(trains[:, :, number, :length]) for number, length in enumerate(lengths)]
    return list(zip(early, mixing_s.tolist(), strict=True))


def unrisen_field(room: Room, mixing_s: float, channels: int, tail: int) -> Response:
    """Return what, added to a diffuse field, lets it rise at the mixing time (seconds): its negative up to there."""
    field = diffuse_field(room, channels, tail)[:, : int((mixing_s + FADE_S) * SAMPLE_RATE) + 2]
    time = np.arange(field.shape[1], dtype=np.float32) / SAMPLE_RATE
    rise = np.sin(0.5 * np.pi * np.clip((time - mixing_s) / FADE_S, 0.0, 1.0)).astype(np.float32)
    return field * (rise - np.float32(1.0))


def _images(room: Room, sources_m: Floats) -> tuple[Floats, Floats]:
    """Return positions (P, I, 3) and amplitude damping (bands, I) of images, in single precision as pyroomacoustics."""
    size, source = np.asarray(room.size_m, np.float32), np.asarray(sources_m, np.float32)[:, None]
    begin, odd, damping = _damping(room)
    return np.asarray(begin + np.where(odd, size - source, source), np.float64), damping


def _beam(reflected: npt.NDArray[np.int64], arriving: Floats, facing: Floats) -> Floats:
    """Return (bands, I) what a directed source sends towards each image's path, its mean power over the sphere 1.

    Args:
        reflected: (I, 3) how often each image is reflected.
        arriving: (I, 3) unit vectors from the microphone to the images.
        facing: (I, 3) see `early_responses`.
    """
    strength = np.linalg.norm(facing, axis=1)
    # A path that is reflected an odd number of times along an axis left the source the other way along it.
    leaving = -arriving * np.where(reflected % 2 == 1, -1.0, 1.0)
    towards = (leaving * facing).sum(axis=1) / np.maximum(strength, 1e-9)
    share = 0.5 * strength * BEAM[:, None]
    return np.asarray((1.0 - share + share * towards) / np.sqrt((1.0 - share) ** 2 + share**2 / 3.0))


@functools.lru_cache(maxsize=16)
def _reflections(order: int) -> npt.NDArray[np.int64]:
    """Return (I, 3): how often, and towards which side, every image is reflected along x, y and z."""
    span = np.arange(-order, order + 1)
    z, y, x = np.meshgrid(span, span, span, indexing="ij")
    kept = np.abs(x) + np.abs(y) + np.abs(z) <= order
    return np.stack([x[kept], y[kept], z[kept]], axis=1)


@functools.lru_cache(maxsize=256)
def _damping(room: Room) -> tuple[Response, npt.NDArray[np.bool_], Floats]:
    """Return of every image (I, 3) where its mirror room begins and along which axes that is turned round.

    And (bands, I) what the walls leave of its amplitude; all of it wherever in the room the source is.
    """
    number = _reflections(room.reflections)
    kept = np.sqrt(np.float32(1.0) - np.asarray(room.absorption, np.float32))
    powers = [np.ones_like(kept)]
    for _ in range(room.reflections):
        powers.append(powers[-1] * kept)
    table = np.stack(powers)
    # A path of n reflections along an axis meets the wall of its side once more than the other where n is odd.
    few, many = np.abs(number) // 2, (np.abs(number) + 1) // 2
    damping = np.ones((kept.shape[1], len(number)), np.float32)
    for axis in range(3):
        positive = number[:, axis] > 0
        for wall, times in (
            (2 * axis, np.where(positive, few[:, axis], many[:, axis])),
            (2 * axis + 1, np.where(positive, many[:, axis], few[:, axis])),
        ):
            damping *= table[times, wall].T
    size = np.asarray(room.size_m, np.float32)
    return number.astype(np.float32) * size, number % 2 == 1, damping.astype(np.float64)


@functools.lru_cache(maxsize=128)
def diffuse_field(room: Room, channels: int, tail: int) -> Response:
    """Return one of a room's diffuse fields (channels, S): noise in every band under its exponential decay.

    Energy per second of a source of amplitude 1 at 1 m: 4πc/V, times 10^(-6 t / RT60): the density of image sources
    times the energy that each brings.
    """
    # The room's own numbers seed the noise, so that a field belongs to its room and not to the order of calls.
    rng = np.random.default_rng(
        [tail % TAILS, *np.asarray([*room.size_m, *room.microphone_m]).view(np.uint64).tolist()]
    )
    length = round(min(1.2 * max(room.rt60_s), LONGEST_TAIL_S) * SAMPLE_RATE)
    time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    density = 4.0 * np.pi * SPEED_OF_SOUND / room.volume_m3 / SAMPLE_RATE
    white = rng.standard_normal((channels, length), dtype=np.float32) * np.float32(np.sqrt(density))
    white[1:] *= np.float32(np.sqrt(1.0 / 3.0))
    decays = np.stack([np.exp(np.float32(-6.9078 / t) * time) for t in room.rt60_s])
    return decay_in_bands(white, decays)


def _absorption(surface: str, rng: np.random.Generator) -> Floats:
    """Return the (6,) octave-band absorption of a random material of a kind of surface."""
    names = SURFACES[surface]
    values = np.asarray(MATERIALS[names[int(rng.integers(len(names)))]])
    return np.asarray(np.clip(values * rng.uniform(0.8, 1.25), 0.01, 0.95))


def _scaled(absorption: Floats, scale: float) -> Floats:
    return np.asarray(1.0 - (1.0 - absorption) ** scale)


def _rt60(size: Floats, absorption: Floats) -> Floats:
    """Return the reverberation time (6,) of each band in seconds by Eyring's formula, air absorption included."""
    length, width, height = size
    areas = np.asarray([width * height] * 2 + [length * height] * 2 + [length * width] * 2)
    mean = areas @ absorption / areas.sum()
    # Absorption of air at 20 °C and 50 % humidity, per metre of energy. Source: ISO 9613-1, rounded.
    air = np.asarray([0.0001, 0.0003, 0.0006, 0.001, 0.0019, 0.0058])
    return np.asarray(0.161 * np.prod(size) / (-areas.sum() * np.log(1.0 - mean) + 4.0 * air * np.prod(size)))
