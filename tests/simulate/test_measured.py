import h5py
import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.media.audio import write_wav
from dcase_seld.simulate.measured_rooms import load_rooms, measured_room
from dcase_seld.simulate.rooms import direction


def foa(azimuth_deg, distance_m, latency=100, gain=0.2):
    """A direct sound and a weak echo, in W, Y, Z, X."""
    sound = np.zeros((4, 4000), np.float32)
    azimuth = np.radians(azimuth_deg)
    sound[:, latency] = np.asarray([1, np.sin(azimuth), 0, np.cos(azimuth)]) * gain / distance_m
    sound[0, latency + 700] = 0.2 * gain / distance_m
    return sound


def write_table(folder, rows):
    lines = ["file,azimuth,elevation,distance,room"]
    for number, (azimuth, distance, room) in enumerate(rows):
        write_wav(folder / f"{number}.wav", foa(azimuth, distance), 24000)
        lines.append(f"{number}.wav,{azimuth},0,{distance},{room}")
    (folder / "responses.csv").write_text("\n".join(lines) + "\n")


def test_wav_responses_become_rooms_with_their_positions_levels_and_delays(tmp_path):
    write_table(tmp_path, [(30, 1.0, "hall"), (-60, 2.0, "hall"), (170, 1.5, "hall"), (0, 1.0, "den")])
    hall, den = load_rooms(tmp_path)
    assert (hall.name, den.name) == ("hall", "den") and len(hall.responses) == 3
    for place, azimuth, distance in zip(hall.places_m, (30, -60, 170), (1.0, 2.0, 1.5), strict=True):
        found = direction(hall, place)
        assert found == pytest.approx((azimuth, 0, distance), abs=1e-6)
        w, y = hall.response_at(place, 2)
        onset = int(np.abs(w).argmax())
        assert onset == pytest.approx(distance / 343 * 24000, abs=1)
        assert w[onset] * distance == pytest.approx(1.0, abs=0.02)
        assert y[onset] / w[onset] == pytest.approx(np.sin(np.radians(azimuth)), abs=0.01)
        assert np.all(place > 0) and np.all(place < hall.size_m)


def test_stereo_responses_cannot_become_first_order(tmp_path):
    write_wav(tmp_path / "a.wav", foa(10, 1.0)[:2], 24000)
    (tmp_path / "responses.csv").write_text("file,azimuth,elevation,distance\na.wav,10,0,1\n")
    (room,) = load_rooms(tmp_path)
    assert room.response_at(room.places_m[0], 2).shape[0] == 2
    with pytest.raises(SeldError, match="are stereo"):
        room.response_at(room.places_m[0], 4)


def test_azimuths_that_contradict_the_sound_are_mirrored_with_a_note(tmp_path):
    azimuths = (-80, -40, -20, 20, 40, 80)
    for folder, sign in (("right", 1), ("wrong", -1)):
        (tmp_path / folder).mkdir()
        lines = ["file,azimuth,elevation,distance"]
        for number, azimuth in enumerate(azimuths):
            write_wav(tmp_path / folder / f"{number}.wav", foa(azimuth, 1.0), 24000)
            lines.append(f"{number}.wav,{sign * azimuth},0,1")
        (tmp_path / folder / "responses.csv").write_text("\n".join(lines) + "\n")
        (room,) = load_rooms(tmp_path / folder)
        assert [direction(room, place)[0] for place in room.places_m] == pytest.approx(azimuths, abs=1e-6)
        assert bool(room.notes) == (folder == "wrong")


def test_mistakes_are_named(tmp_path):
    with pytest.raises(SeldError, match="does not exist"):
        load_rooms(tmp_path / "none")
    with pytest.raises(SeldError, match=r"holds no measured room.*responses\.csv"):
        load_rooms(tmp_path)
    (tmp_path / "responses.csv").write_text("file,azimuth,elevation,distance\na.wav,left,0,1\n")
    with pytest.raises(SeldError, match="line 2"):
        load_rooms(tmp_path)
    write_wav(tmp_path / "a.wav", foa(0, 1.0)[:1], 24000)
    (tmp_path / "responses.csv").write_text("file,azimuth,elevation,distance\na.wav,0,0,1\n")
    with pytest.raises(SeldError, match=r"1 channel\(s\)"):
        load_rooms(tmp_path)


def test_sofa_files_are_read(tmp_path):
    azimuths = np.asarray([0.0, 45.0, 315.0])
    with h5py.File(tmp_path / "room.sofa", "w") as file:
        file["Data.IR"] = np.stack([foa(a, 1.2) for a in azimuths])
        file["Data.SamplingRate"] = [24000.0]
        file["SourcePosition"] = np.stack([azimuths, 0 * azimuths, 0 * azimuths + 1.2], axis=1)
        file["SourcePosition"].attrs["Type"] = b"spherical"
        file["ListenerPosition"] = np.zeros((1, 3))
    (room,) = load_rooms(tmp_path)
    assert room.name == "room" and room.responses[0].shape[0] == 4
    assert [direction(room, place)[0] for place in room.places_m] == pytest.approx((0, 45, -45), abs=1e-6)
    (tmp_path / "bad.sofa").write_bytes(b"no hdf5")
    with pytest.raises(SeldError, match="no SOFA file"):
        load_rooms(tmp_path)


def test_a_share_of_the_rooms_is_measured_ones_in_turn():
    """Each once and first where no share is given; else spread over the split's rooms."""
    rooms = ["a", "b"]
    assert [measured_room(rooms, number, None) for number in range(4)] == ["a", "b", None, None]
    found = [measured_room(rooms, number, 0.3) for number in range(10)]
    assert [room for room in found if room] == ["a", "b", "a"] and found[0] is None
    assert [measured_room([], number, 0.5) for number in range(2)] == [None, None]
    assert {measured_room(rooms, number, 1.0) for number in range(4)} == {"a", "b"}
