import numpy as np
import pytest

from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import foa_to_stereo


def plane_wave(azimuth_deg, elevation_deg=0.0):
    signal = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    az, el = np.radians([azimuth_deg, elevation_deg])
    gains = [1, np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)]
    return np.stack([np.float32(g) * signal for g in gains]), signal


@pytest.mark.parametrize("angle", [0, 40, 135, 270, 359])
def test_a_source_at_90_degrees_left_of_the_view_sounds_left_only(angle):
    foa, signal = plane_wave(90 - angle)
    left, right = foa_to_stereo(foa, angle)
    np.testing.assert_allclose(left, 2 * signal, atol=1e-5)
    np.testing.assert_allclose(right, 0, atol=1e-5)


def test_front_and_back_are_equal_in_both_channels_and_the_mid_is_the_omni():
    for azimuth in (0, 180):
        left, right = foa_to_stereo(plane_wave(azimuth)[0], 0)
        np.testing.assert_allclose(left, right, atol=1e-6)
    foa, signal = plane_wave(33, 20)
    np.testing.assert_allclose(foa_to_stereo(foa, 77).mean(0), signal, atol=1e-6)


def test_a_stereo_file_is_refused():
    with pytest.raises(SeldError, match="4 channels"):
        foa_to_stereo(np.zeros((2, 10), np.float32), 0)
