import numpy as np
import pytest
import torch

from dcase_seld.core.task import window_starts
from dcase_seld.infer.collect import sorted_tracks, stitch, take_tracks
from dcase_seld.model.types import SeldOutput


def random_output(frames, seed, onscreen=True):
    generator = torch.Generator().manual_seed(seed)
    xy = torch.rand(1, frames, 4, 3, 2, generator=generator)
    distance = torch.rand(1, frames, 4, 3, generator=generator) * 5
    logits = torch.randn(1, frames, 4, 3, generator=generator)
    return SeldOutput(xy, distance, logits if onscreen else None)


def cut(output, start, window):
    return SeldOutput(*(None if f is None else f[:, start : start + window] for f in output))


def shuffled(output, seed):
    index = torch.rand(output.distance.shape, generator=torch.Generator().manual_seed(seed)).argsort(-1)
    return take_tracks(output, index)


@pytest.mark.parametrize(
    "frames, hop, expected",
    [(50, 50, [0]), (20, 50, [0]), (120, 50, [0, 50, 70]), (100, 25, [0, 25, 50]), (51, 50, [0, 1])],
)
def test_windows_cover_the_recording_and_the_last_one_ends_with_it(frames, hop, expected):
    starts = window_starts(frames, 50, hop)
    assert starts == expected
    assert {f for s in starts for f in range(s, s + 50)} >= set(range(frames))


def test_a_hop_longer_than_the_window_would_leave_gaps():
    with pytest.raises(ValueError, match="hop"):
        window_starts(100, 50, 60)


@pytest.mark.parametrize("hop", [50, 25, 10])
@pytest.mark.parametrize("onscreen", [True, False])
def test_windows_of_one_output_stitch_to_that_output_whatever_the_order_of_their_tracks(hop, onscreen):
    whole = random_output(137, 0, onscreen)
    starts = window_starts(137, 50, hop)
    windows = [shuffled(cut(whole, s, 50), i) for i, s in enumerate(starts)]
    for field, want in zip(stitch(windows, starts, 137), sorted_tracks(whole), strict=True):
        assert (field is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(field, want, atol=1e-4, rtol=1e-4)


def test_a_window_counts_less_near_its_edge():
    def constant(value):
        return SeldOutput(torch.full((1, 50, 1, 1, 2), value), torch.ones(1, 50, 1, 1), None)

    result = stitch([constant(0.0), constant(1.0), constant(1.0)], [0, 10, 60], 110)
    assert result.direction[0, 5].max() == 0 and result.direction[0, 55].min() == 1
    assert float(result.direction[0, 45, 0, 0, 0]) > 0 and float(result.direction[0, 12, 0, 0, 0]) < 1


def test_a_recording_shorter_than_a_window_loses_the_padding():
    window = random_output(50, 1)
    torch.testing.assert_close(stitch([window], [0], 12).direction, sorted_tracks(cut(window, 0, 12)).direction)


def test_a_long_recording_is_decoded_as_it_comes_and_as_if_it_had_come_at_once(monkeypatch):
    """Windows that a later one may overlap wait; all others are settled."""
    from types import SimpleNamespace

    from dcase_seld.core.task import Task
    from dcase_seld.infer import collect

    starts, frames = list(range(0, 1000, 20)), 1030
    rng = torch.Generator().manual_seed(0)
    outputs = [
        SeldOutput(torch.randn(1, 50, 3, 3, 2, generator=rng), torch.rand(1, 50, 3, 3, generator=rng), None)
        for _ in starts
    ]
    source = SimpleNamespace(
        names=["long"], frames=np.array([frames]), clips=np.zeros(1, np.int64), task=Task(),
        windows=np.stack([np.zeros(len(starts), np.int64), starts], 1),
    )  # fmt: skip
    tables, most = [], 0
    for waiting in (10_000, 4):
        monkeypatch.setattr(collect, "MOST_WAITING", waiting)
        collector = collect.EventCollector([source], thresholds=1.5)
        for start, output in zip(starts, outputs, strict=True):
            batch = SimpleNamespace(
                source=torch.zeros(1, dtype=int), index=torch.zeros(1, dtype=int), start=torch.tensor([start])
            )
            collector.add(output, batch)
            most = max([most if waiting == 4 else 0, *(len(one.windows) for one in collector._waiting.values())])
        tables.append(collector.events())
    assert most <= 4 and len(tables[0]) > 1000
    for name in ("frame", "class_index", "source", "azimuth_deg", "distance_m", "activity"):
        assert np.array_equal(getattr(tables[0], name), getattr(tables[1], name)), name
