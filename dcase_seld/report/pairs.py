"""Which prediction belongs to which reference: what every error statistic of a report starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dcase_seld.metrics.matching import match
from dcase_seld.task.events import Events
from dcase_seld.task.facts import DOA_THRESHOLD_DEG

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Rows of two event tables brought together.

    Attributes:
        reference: (M,) rows of the references that were matched in their own class.
        prediction: (M,) rows of the predictions, in the same order.
        confused_reference: (K,) rows of references whose class nobody predicted, but another class within 20°.
        confused_prediction: (K,) rows of those predictions.
        missed: rows of references with no prediction at all.
        extra: rows of predictions with no reference at all.
    """

    reference: Indices
    prediction: Indices
    confused_reference: Indices
    confused_prediction: Indices
    missed: Indices
    extra: Indices


def pair(prediction: Events, reference: Events, n_classes: int) -> Pairs:
    """Return the pairs of every frame: first within classes by azimuth, as scored; then across classes within 20°."""
    place = {name: index for index, name in enumerate(reference.clips)}
    clip_of = np.array([place.get(name, -1) for name in prediction.clips], np.int64)
    clip = clip_of[prediction.clip]
    frames = 1 + max((int(table.frame.max()) for table in (prediction, reference) if len(table)), default=0)
    guess = clip * frames + prediction.frame
    truth = reference.clip.astype(np.int64) * frames + reference.frame
    a, b = _match(
        truth * n_classes + reference.class_index,
        reference.azimuth_deg,
        guess * n_classes + prediction.class_index,
        prediction.azimuth_deg,
    )
    left_a = np.setdiff1d(np.arange(len(reference)), a)
    left_b = np.setdiff1d(np.arange(len(prediction)), b)
    i, j = _match(truth[left_a], reference.azimuth_deg[left_a], guess[left_b], prediction.azimuth_deg[left_b])
    other_a, other_b = left_a[i], left_b[j]
    near = np.abs(reference.azimuth_deg[other_a] - prediction.azimuth_deg[other_b]) <= DOA_THRESHOLD_DEG
    other_a, other_b = other_a[near], other_b[near]
    return Pairs(a, b, other_a, other_b, np.setdiff1d(left_a, other_a), np.setdiff1d(left_b, other_b))


def _match(
    key_a: Indices, azimuth_a: npt.NDArray[np.float64], key_b: Indices, azimuth_b: npt.NDArray[np.float64]
) -> tuple[Indices, Indices]:
    """Return the indices of pairs that share a key, each key's pairs by the smallest sum of azimuth differences."""
    order_a, order_b = np.argsort(key_a, kind="stable"), np.argsort(key_b, kind="stable")
    unique_a, start_a, count_a = np.unique(key_a[order_a], return_index=True, return_counts=True)
    unique_b, start_b, count_b = np.unique(key_b[order_b], return_index=True, return_counts=True)
    _, in_a, in_b = np.intersect1d(unique_a, unique_b, assume_unique=True, return_indices=True)
    start_a, count_a, start_b, count_b = start_a[in_a], count_a[in_a], start_b[in_b], count_b[in_b]
    found_a, found_b = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for rows, columns in sorted(set(zip(count_a.tolist(), count_b.tolist(), strict=True))):
        here = (count_a == rows) & (count_b == columns)
        members_a = order_a[start_a[here][:, None] + np.arange(rows)]
        members_b = order_b[start_b[here][:, None] + np.arange(columns)]
        i, j = match(np.abs(azimuth_a[members_a][:, :, None] - azimuth_b[members_b][:, None, :]))
        found_a.append(np.take_along_axis(members_a, np.asarray(i), axis=1).ravel())
        found_b.append(np.take_along_axis(members_b, np.asarray(j), axis=1).ravel())
    return np.concatenate(found_a), np.concatenate(found_b)
