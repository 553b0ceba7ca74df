import numpy as np
import pytest
import torch
from golden_model import GOLDEN, stereo

from dcase_seld.model.config import BaselineFrontEndConfig, FrontEndConfig
from dcase_seld.model.features import StpAcc
from dcase_seld.model.frontend import FrontEnd

FEATURES = np.load(GOLDEN / "features.npz")
ALL = ("log_mel", "ild", "stpacc", "mid_side", "coherence", "intensity", "direct")


def signal(name):
    wave = stereo()
    return {"left": wave[:, 0], "right": wave[:, 1], "mid": wave.mean(1)}[name]


@pytest.mark.parametrize("hop", [150, 480])
@pytest.mark.parametrize("name", ["left", "right", "mid"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_stpacc_equals_its_authors(hop, name, dtype, limit):
    expected = FEATURES[f"stpacc_{name}_hop{hop}"]
    got = StpAcc(hop, 64)(signal(name).to(dtype))[0].double().numpy()
    defined = np.isfinite(expected)
    assert got.shape == expected.shape
    assert np.isfinite(got).all()
    assert np.abs(got - expected)[defined].max() <= limit
    # The authors' program gives NaN on silent frames, ours zeros.
    assert not got[~defined].any() and not defined.all()


@pytest.mark.parametrize("level", [1e-3, 1e-6, 1e-12, 1e-30])
def test_stpacc_of_near_silence_is_that_of_the_same_sound_louder(level):
    wave = torch.randn(1, 12000, generator=torch.Generator().manual_seed(0)) * 0.1
    assert torch.allclose(StpAcc(150, 64)(wave * level), StpAcc(150, 64)(wave), atol=1e-4)


def test_stpacc_of_one_quiet_frame_in_a_loud_clip():
    wave = torch.randn(1, 24000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wave[:, 8000:16000] *= 1e-7
    assert torch.allclose(StpAcc(150, 64)(wave.float()).double(), StpAcc(150, 64)(wave), atol=1e-4)


def test_log_mel_equals_official_baseline():
    expected = FEATURES["log_mel_baseline"][:, :250]
    frontend = FrontEnd(BaselineFrontEndConfig())
    assert np.abs(frontend.extract(stereo())[0].numpy() - expected).max() < 2e-5
    assert np.abs(frontend.extract(stereo().float())[0].numpy() - expected).max() < 1e-3


@pytest.mark.parametrize("amplitude", [0.0, 1e-9, 1e-5])
def test_silent_and_near_silent_clips_are_finite(amplitude):
    frontend = FrontEnd(FrontEndConfig(features=ALL))
    wave = torch.randn(2, 2, 24000, generator=torch.Generator().manual_seed(0)) * amplitude
    assert torch.isfinite(frontend(wave)).all()


@pytest.mark.parametrize("hop", [150, 300, 480, 600])
def test_frames_are_whole_label_frames(hop):
    frontend = FrontEnd(FrontEndConfig(features=ALL, hop=hop))
    assert frontend.channels == (
        "left",
        "right",
        "ild",
        "stpacc",
        "mid",
        "side",
        "coherence",
        "intensity",
        "direct_side",
        "diffuse",
    )
    for samples in (24000, 25000):
        features = frontend.extract(torch.randn(1, 2, samples))
        assert features.shape == (1, 10, 10 * 2400 // hop, 64)
        assert frontend.frames(samples) == features.shape[2]


@pytest.mark.parametrize("features", [("stpacc",), ("ild", "log_mel"), ("intensity", "coherence")])
def test_any_subset_equals_the_same_channels_of_all(features):
    wave = torch.randn(1, 2, 24000, generator=torch.Generator().manual_seed(0))
    some, every = (FrontEnd(FrontEndConfig(features=names)) for names in (features, ALL))
    chosen = [every.channels.index(name) for name in some.channels]
    assert torch.equal(some.extract(wave), every.extract(wave)[:, chosen])


def test_extra_channels_mean_what_they_say():
    frontend = FrontEnd(FrontEndConfig(features=ALL))
    noise = torch.randn(1, 1, 48000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    left_only = frontend.extract(torch.cat((noise, 0 * noise), 1))
    index = frontend.channels.index
    assert torch.allclose(left_only[:, index("intensity")], torch.ones(()).double(), atol=1e-6)
    same = frontend.extract(torch.cat((noise, noise), 1))
    assert torch.allclose(same[:, index("coherence")], torch.ones(()).double(), atol=1e-6)
    assert torch.allclose(same[:, index("mid")], same[:, index("left")], atol=1e-6)
    assert not same[:, index("intensity")].abs().max() > 1e-9
    independent = frontend.extract(torch.randn(1, 2, 48000, dtype=torch.float64))
    assert independent[:, index("coherence")].mean() < 0.7


@pytest.mark.parametrize("azimuth", [-60, -20, 0, 45])
@pytest.mark.parametrize("reverberant", [0.0, 0.5, 1.0])
def test_the_direct_sound_is_told_from_a_diffuse_field(azimuth, reverberant):
    # A diffuse field reaches the figure-of-eight with a third of the power that the omnidirectional microphone gets.
    source, *field = torch.randn(3, 1, 1, 48000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sine = np.sin(np.deg2rad(azimuth))
    mid = source + reverberant**0.5 * field[0]
    side = sine * source + (reverberant / 3) ** 0.5 * field[1]
    found = FrontEnd(FrontEndConfig(features=("direct",))).extract(torch.cat((mid + side, mid - side), 1) / 4)
    direction, diffuse = found.mean((0, 2, 3)).tolist()
    assert direction == pytest.approx(sine, abs=1e-6 if not reverberant else 0.05)
    assert diffuse == pytest.approx(reverberant / (1 + reverberant), abs=0.05)


def with_statistics(frontend, wave):
    features = frontend.extract(wave)
    frontend.set_statistics(features.mean((0, 2)), features.std((0, 2)))
    return frontend


def test_swapping_channels_of_the_wave_swaps_the_features():
    wave = torch.randn(3, 2, 24000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wave[:, 0] *= 0.3
    frontend = with_statistics(FrontEnd(FrontEndConfig(features=ALL)).double(), wave)
    for stage in (frontend.extract, frontend):
        assert torch.allclose(stage(wave.flip(1)), frontend.swap(stage(wave)), atol=1e-9)
    ild = frontend.channels.index("ild")
    assert torch.allclose(frontend(wave.flip(1))[:, ild], -frontend(wave)[:, ild], atol=1e-9)


def test_statistics_share_left_and_right_and_leave_signed_channels_centred():
    wave = torch.randn(3, 2, 24000, generator=torch.Generator().manual_seed(0))
    wave[:, 0] *= 0.3
    frontend = with_statistics(FrontEnd(FrontEndConfig(features=ALL)), wave)
    index = frontend.channels.index
    assert torch.equal(frontend.mean[index("left")], frontend.mean[index("right")])
    assert torch.equal(frontend.std[index("left")], frontend.std[index("right")])
    assert all(not frontend.mean[index(name)].any() for name in frontend.signed)
    standardised = frontend(wave)
    pair = standardised[:, [index("left"), index("right")]]
    assert pair.mean((0, 1, 2)).abs().max() < 1e-3
    assert (pair.square().mean((0, 1, 2)) - 1).abs().max() < 0.02
    assert (standardised[:, index("stpacc")].std((0, 1)) - 1).abs().max() < 0.05


def test_constant_bins_are_not_blown_up():
    frontend = FrontEnd(FrontEndConfig())
    frontend.set_statistics(torch.zeros(4, 64), torch.zeros(4, 64))
    assert torch.equal(frontend.std, torch.ones(4, 64))


def test_standardising_takes_a_half_precision_cache():
    frontend = FrontEnd(FrontEndConfig())
    features = frontend.extract(torch.randn(1, 2, 24000))
    assert torch.allclose(frontend.standardise(features.half()), frontend.standardise(features), atol=0.1)


def test_fingerprint_follows_the_configuration_not_the_statistics():
    frontend = FrontEnd(FrontEndConfig())
    before = frontend.fingerprint()
    frontend.set_statistics(torch.ones(4, 64), torch.ones(4, 64) * 2)
    assert frontend.fingerprint() == before == FrontEnd(FrontEndConfig()).fingerprint()
    assert FrontEnd(FrontEndConfig(hop=300)).fingerprint() != before


def test_thread_setting_survives():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        StpAcc(150, 64)(torch.randn(1, 12000))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
