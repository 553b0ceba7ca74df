import numpy as np
import pyroomacoustics as pra
import pytest

from dcase_seld.core.task import SAMPLE_RATE
from dcase_seld.simulate.config import RoomsConfig
from dcase_seld.simulate.rooms import (
    MATERIALS,
    SURFACES,
    _images,
    diffuse_field,
    direction,
    early_responses,
    sample_room,
    sample_source,
    unrisen_field,
)
from dcase_seld.simulate.synthesis import BANDS_HZ

CONFIG = RoomsConfig()


def rooms(count, **changes):
    config = CONFIG.model_copy(update=changes)
    return [sample_room(config, np.random.default_rng(seed)) for seed in range(count)]


def at(room, azimuth_deg, distance_m, elevation_deg=0.0):
    az, el = np.radians([azimuth_deg, elevation_deg])
    return np.asarray(room.microphone_m) + distance_m * np.asarray(
        [np.cos(az) * np.cos(el), np.sin(az) * np.cos(el), np.sin(el)]
    )


def early_response(room, place, channels, facing=None):
    """What `early_responses` returns of one source; it is that of the source among others."""
    ways = None if facing is None else np.asarray([facing, facing])
    (sound, mixing_s), other = early_responses(room, np.asarray([place, place]), channels, ways)
    assert np.array_equal(sound, other[0]) and mixing_s == other[1]
    return sound, mixing_s


def response(room, place, channels, tail):
    """The whole response of a source: early part, and the diffuse field from its time on."""
    early, mixing_s = early_response(room, place, channels)
    field = diffuse_field(room, channels, tail).copy()
    unrisen = unrisen_field(room, mixing_s, channels, tail)
    field[:, : unrisen.shape[1]] += unrisen
    field = np.pad(field, ((0, 0), (0, max(0, early.shape[1] - field.shape[1]))))
    field[:, : early.shape[1]] += early
    return field


def direct(response_, distance_m):
    """The first 2 ms after the direct sound's arrival."""
    start = int(distance_m / 343.0 * SAMPLE_RATE) - 8
    return response_[:, max(0, start) : start + 48]


def test_images_are_those_of_pyroomacoustics_to_the_bit():
    names = ("west", "east", "south", "north", "floor", "ceiling")
    for seed, room in enumerate([*rooms(6), *rooms(2, reflections=3), *rooms(1, reflections=1)]):
        place = sample_source(room, CONFIG, np.random.default_rng([seed, 1]))
        walls = zip(names, room.absorption, strict=True)
        made = {name: pra.Material({"coeffs": list(a), "center_freqs": list(BANDS_HZ)}) for name, a in walls}
        order = room.reflections
        box = pra.ShoeBox(room.size_m, SAMPLE_RATE, materials=made, max_order=order, air_absorption=False)
        box.add_microphone(list(room.microphone_m))
        box.add_source(list(place))
        box.image_source_model()
        images, damping = _images(room, place[None])
        assert np.array_equal(images[0], box.sources[0].images.T) and len(images[0]) > 6
        assert np.array_equal(damping, box.sources[0].damping[: len(BANDS_HZ)])


def test_materials_are_those_of_the_published_table():
    table = pra.parameters.materials_absorption_table
    for name, absorption in MATERIALS.items():
        assert tuple(table[name]["coeffs"][:6]) == absorption
        assert tuple(table[name]["center_freqs"][:6]) == BANDS_HZ
    assert set(MATERIALS) == {name for names in SURFACES.values() for name in names}


def test_the_late_field_of_left_and_right_correlates_as_in_a_diffuse_room():
    late = slice(int(0.1 * SAMPLE_RATE), int(0.35 * SAMPLE_RATE))
    found = []
    for room in rooms(8):
        w, y = response(room, at(room, 40, 1.0), 2, 0)[:, late]
        found.append(np.corrcoef(w + y, w - y)[0, 1])
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    assert np.all(np.abs(np.asarray(found) - 0.5) < 0.15)


@pytest.mark.parametrize("azimuth", [-90, -35, 0, 60, 150])
def test_the_direct_sound_has_the_gains_of_its_direction_and_falls_with_distance(azimuth):
    room = rooms(1, length_m=(9.0, 9.0), width_m=(8.0, 8.0), height_m=(4.0, 4.0))[0]
    for distance in (0.7, 1.4):
        w, y, z, x = direct(response(room, at(room, azimuth, distance, 10.0), 4, 0), distance)
        peak = int(np.abs(w).argmax())
        assert w[peak] * distance == pytest.approx(1.0, abs=0.15)
        expected = [
            np.sin(np.radians(azimuth)) * np.cos(np.radians(10)),
            np.sin(np.radians(10)),
            np.cos(np.radians(azimuth)) * np.cos(np.radians(10)),
        ]
        np.testing.assert_allclose(np.asarray([y[peak], z[peak], x[peak]]) / w[peak], expected, atol=0.12)


def test_the_direct_to_reverberant_ratio_falls_with_distance():
    for room in rooms(4, length_m=(10.0, 10.0), width_m=(7.0, 7.0), rt60_s=(0.5, 0.5)):
        ratios = []
        for distance in (0.5, 1.0, 1.7):
            heard = response(room, at(room, 180 if room.microphone_m[0] > 5 else 0, distance), 2, 1)[0]
            end = int((distance / 343.0 + 0.0025) * SAMPLE_RATE)
            ratios.append(10 * np.log10(np.square(heard[:end]).sum() / np.square(heard[end:]).sum()))
        assert ratios[0] > ratios[1] + 2 > ratios[2] + 3


def test_the_reverberation_decays_as_the_room_says_and_goes_on_smoothly_from_early_to_late():
    for room in rooms(4, rt60_s=(0.4, 0.8)):
        heard = response(room, at(room, 20, 1.0), 2, 2)[0]
        rest = np.cumsum(np.square(heard)[::-1])[::-1]
        level = 10 * np.log10(rest / rest[0])
        first, last = int(np.argmax(level < -8)), int(np.argmax(level < -28))
        t60 = 3.0 * (last - first) / SAMPLE_RATE
        assert 0.6 * min(room.rt60_s) < t60 < 1.4 * max(room.rt60_s)
        _, mixing_s = early_response(room, at(room, 20, 1.0), 2)
        before, after = (
            np.square(heard[int((mixing_s + a) * SAMPLE_RATE) : int((mixing_s + b) * SAMPLE_RATE)]).mean()
            for a, b in ((-0.015, 0.0), (0.012, 0.027))
        )
        assert -2.0 < 10 * np.log10(before / after) < 10.0


def test_sources_are_in_the_room_at_the_distances_and_on_all_sides_asked_for():
    room = rooms(1, length_m=(11.0, 11.0), width_m=(8.0, 8.0))[0]
    rng = np.random.default_rng(0)
    places = np.asarray([sample_source(room, CONFIG, rng) for _ in range(300)])
    assert np.all(places > [0.29, 0.29, 0.19]) and np.all(places < np.asarray(room.size_m) - 0.29)
    azimuth, elevation, distance = np.asarray([direction(room, place) for place in places]).T
    assert distance.min() >= 0.4 and distance.max() <= 8.0 and distance.max() > 4.0
    assert np.abs(elevation).max() <= 65 and elevation.std() > 3
    assert np.histogram(azimuth, bins=4, range=(-180, 180))[0].min() > 30
    front = direction(room, at(room, 0, 1.0))
    left = direction(room, at(room, 90, 2.0))
    assert front == pytest.approx((0, 0, 1)) and left == pytest.approx((90, 0, 2))


def test_rooms_differ_in_size_reverberation_and_materials():
    made = rooms(20)
    assert len({room.size_m for room in made}) == 20
    assert min(r.rt60_s[3] for r in made) < 0.4 and max(r.rt60_s[3] for r in made) > 0.6
    slopes = [room.rt60_s[5] / room.rt60_s[0] for room in made]
    assert min(slopes) < 0.7 and max(slopes) > 1.0


def test_a_source_that_faces_the_microphone_is_louder_than_one_that_turns_its_back_and_sends_no_more_in_all():
    (room,) = rooms(1)
    place = at(room, 30, 2.0)
    toward = (np.asarray(room.microphone_m) - place) / 2.0
    plain, front, back, none = (
        early_response(room, place, 2, facing)[0] for facing in (None, toward, -toward, (1e-9, 0.0, 0.0))
    )
    assert np.allclose(none, plain, atol=1e-6)
    direct = round(2.0 / 343 * SAMPLE_RATE)

    def level(sound, hz):
        spectrum = np.abs(np.fft.rfft(sound[0, direct - 20 : direct + 20], 2400)) ** 2
        return 10 * np.log10(spectrum[hz // 10])

    assert level(front, 8000) - level(back, 8000) > 15 > 3 > level(front, 200) - level(back, 200) > 0
    ways = np.random.default_rng(0).standard_normal((300, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    power = np.mean([np.square(early_response(room, place, 2, way)[0][0]).sum() for way in ways])
    assert power == pytest.approx(np.square(plain[0]).sum(), rel=0.1)
