from pathlib import Path

import numpy as np
import pytest

from dcase_seld.core.geometry import azimuth_to_column, is_onscreen, perspective_view

GOLDEN = Path(__file__).parent.parent / "golden" / "convert"


def test_onscreen_equals_the_organisers_table():
    with np.load(GOLDEN / "onscreen_0deg.npz") as table:
        azimuth, elevation = np.meshgrid(table["azimuth_deg"], table["elevation_deg"], indexing="ij")
        assert np.array_equal(is_onscreen(azimuth, elevation), table["onscreen"] == 1)


def test_onscreen_of_any_azimuth():
    assert is_onscreen([51, 411, -309, 52, -50, -51, 180], 0).tolist() == [True, True, True, False, True, False, False]
    assert not is_onscreen(0, [-89, 89, -35, 36]).any()


def dot(azimuth_deg, elevation_deg, width=1920, height=960):
    """A 360° picture, black but for a white spot of 3 pixels at a direction."""
    picture = np.zeros((height, width, 3), np.uint8)
    column, row = (0.5 - azimuth_deg / 360) * width - 0.5, (0.5 - elevation_deg / 180) * height - 0.5
    for y in range(round(row) - 1, round(row) + 2):
        for x in range(round(column) - 1, round(column) + 2):
            picture[y, x % width] = 255
    return picture


def centre(view):
    weight = view[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    return (rows * weight).sum() / weight.sum(), (columns * weight).sum() / weight.sum()


@pytest.mark.parametrize("angle", [0, 40, 135, 180, 270, 359])
@pytest.mark.parametrize("azimuth", [-45, -20, 0, 10, 45])
def test_a_direction_lands_where_the_pinhole_says(angle, azimuth):
    # Seen at φ, what lies at azimuth a - φ of the recording appears at azimuth a of the picture.
    row, column = centre(perspective_view(dot(azimuth - angle, 0), angle))
    assert column == pytest.approx(float(azimuth_to_column(azimuth)), abs=1.5)
    assert row == pytest.approx(180, abs=1.5)


def test_up_is_up():
    row, column = centre(perspective_view(dot(0, 20), 0))
    assert row == pytest.approx(180 - 320 / np.tan(np.radians(50)) * np.tan(np.radians(20)), abs=1.5)
    assert column == pytest.approx(320, abs=1.5)


def test_the_seam_does_not_show():
    columns = np.arange(1920)
    wave = np.rint(127 + 100 * np.sin(2 * np.pi * columns / 1920 * 8)).astype(np.uint8)
    picture = np.broadcast_to(wave[None, :, None], (960, 1920, 3)).copy()
    behind = perspective_view(picture, 180)
    # Turning by a whole period of the wave (45°) away from the seam must show the same.
    assert np.abs(behind.astype(int) - perspective_view(picture, 135)).max() <= 2


def test_any_size_of_picture():
    small = perspective_view(dot(0, 0, 480, 240), 0)
    assert small.shape == (360, 640, 3) and small.dtype == np.uint8
