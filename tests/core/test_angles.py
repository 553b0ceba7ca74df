import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcase_seld.core.geometry import azimuth_to_column, column_to_azimuth, fold, turn, wrap

ANGLE = st.floats(-2000, 2000)


@pytest.mark.parametrize(
    ("azimuth", "folded"), [(0, 0), (90, 90), (91, 89), (180, 0), (-91, -89), (-180, 0), (270, -90), (450, 90)]
)
def test_folding_mirrors_the_back_to_the_front(azimuth, folded):
    assert fold(azimuth) == folded


@given(ANGLE)
def test_folding_keeps_left_and_right_and_is_done_once(azimuth):
    folded = fold(azimuth)
    assert -90 <= folded <= 90
    assert fold(folded) == folded
    assert np.sin(np.radians(folded)) == pytest.approx(np.sin(np.radians(azimuth)), abs=1e-9)


@given(ANGLE, ANGLE)
def test_turning_there_and_back_changes_nothing(azimuth, angle):
    back = turn(turn(azimuth, angle), -angle)
    assert abs(wrap(back - azimuth)) == pytest.approx(0, abs=1e-6)


def test_columns_follow_the_pinhole_camera():
    assert azimuth_to_column([50, 0, -50]) == pytest.approx([0, 320, 640])
    assert np.isnan(azimuth_to_column(90))
    azimuth = np.linspace(-49, 49, 21)
    np.testing.assert_allclose(column_to_azimuth(azimuth_to_column(azimuth)), azimuth)
    assert azimuth_to_column(10, width=1280) == pytest.approx(2 * azimuth_to_column(10))
