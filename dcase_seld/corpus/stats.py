"""What a set of labels is like: classes, directions, distances, polyphony, on screen or not; figures and a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dcase_seld.core.classes import Taxonomy
from dcase_seld.core.csv_rows import Limits
from dcase_seld.core.event_files import in_batches, labels_in, list_csv
from dcase_seld.core.events import Events
from dcase_seld.core.files import whole_file
from dcase_seld.core.task import LABEL_RATE
from dcase_seld.corpus.ambisonic import events_of_metadata, is_all_around, read_metadata

AZIMUTH_EDGES = np.arange(-90, 91, 10)
"""Edges of the azimuth histogram in degrees."""

SPHERE_EDGES = np.arange(-180, 181, 10), np.arange(-90, 91, 10)
"""Edges of azimuth and elevation, in degrees, where directions are all around."""

DISTANCE_EDGES = np.arange(0.0, 10.5, 0.5)
"""Edges of the distance histogram in metres; what lies beyond counts in the last bin."""


@dataclass(frozen=True)
class LabelStats:
    """Figures of a set of labels; a source frame is one source sounding for one label frame of 100 ms."""

    classes: tuple[str, ...]  # names of the C classes
    clips: int  # number of clips; silent_clips: those without any event
    silent_clips: int
    source_frames: npt.NDArray[np.int64]  # (C,) source frames
    clips_with: npt.NDArray[np.int64]  # (C,) clips in which the class occurs
    onscreen: npt.NDArray[np.float64]  # (C,) share of the source frames that are on screen, NaN where there are none
    azimuth: npt.NDArray[np.int64]  # (C, bins) histogram over AZIMUTH_EDGES, or the first of SPHERE_EDGES
    distance: npt.NDArray[np.int64]  # (C, bins) histogram over DISTANCE_EDGES
    # (C, 3) quartiles in metres, NaN where the labels give no distance (STARSS22's: all 0)
    distance_quartiles_m: npt.NDArray[np.float64]
    polyphony: npt.NDArray[np.int64]  # (P,) label frames with 1, 2, … sources at a time
    same_class: npt.NDArray[np.int64]  # (P,) class frames with 1, 2, … sources of one class at a time
    # (azimuths, elevations) source frames over SPHERE_EDGES; None: a half circle
    sphere: npt.NDArray[np.int64] | None = None

    @property
    def azimuth_edges(self) -> npt.NDArray[np.integer]:
        """Return the edges of the azimuth histogram in degrees."""
        return AZIMUTH_EDGES if self.sphere is None else SPHERE_EDGES[0]

    def to_json(self) -> dict[str, Any]:
        """Return all figures as plain data; what is undefined is null."""

        def plain(values: npt.NDArray[Any]) -> list[Any]:
            return [
                plain(v) if isinstance(v, np.ndarray) else None if isinstance(v, float) and np.isnan(v) else v
                for v in (values if values.ndim > 1 else values.tolist())
            ]

        around: dict[str, Any] = {}
        if self.sphere is not None:
            around = {"elevation_edges_deg": SPHERE_EDGES[1].tolist()}
        return {
            "clips": self.clips,
            "silent_clips": self.silent_clips,
            "classes": list(self.classes),
            "azimuth_edges_deg": self.azimuth_edges.tolist(),
            "distance_edges_m": DISTANCE_EDGES.tolist(),
            **around,
            **{name: plain(value) for name, value in vars(self).items() if isinstance(value, np.ndarray)},
        }


def read_labels(
    folder: Path, taxonomy: Taxonomy, splits: Sequence[str] = ("all",)
) -> tuple[Iterator[Events], Taxonomy]:
    """Return the labels of a store, of a corpus in the official layout or of a folder of CSV files, and their classes.

    Labels of CSV files come some clips at a time, so that large sets need no memory. `taxonomy`: of CSV files (a store
    knows its own); `splits`: of a store only. Raises SeldError: the folder holds no labels.
    """
    if (folder / "store.json").is_file():
        from dcase_seld.store.store import Store

        store = Store.open(folder)
        names = [store.names[index] for index in store.indices(list(splits)) if store.labelled[index]]
        return iter([store.events.select_clips(names)]), store.taxonomy
    if is_all_around(folder):
        files = list_csv(labels_in(folder))
        return (events_of_metadata(name, read_metadata(Path(path), len(taxonomy), 0)) for name, path in files), taxonomy
    return in_batches(list_csv(labels_in(folder)), Limits(len(taxonomy), None)), taxonomy


def label_stats(tables: Iterable[Events], taxonomy: Taxonomy) -> LabelStats:
    """Return the figures of a set of labels, given some clips at a time."""
    size = len(taxonomy)
    clips = silent = 0
    frames, clips_with = np.zeros(size, np.int64), np.zeros(size, np.int64)
    seen = np.zeros(size)
    azimuth = np.zeros((size, len(AZIMUTH_EDGES) - 1), np.int64)
    sphere: npt.NDArray[np.int64] | None = None
    distance = np.zeros((size, len(DISTANCE_EDGES) - 1), np.int64)
    polyphony, same_class = np.zeros(0, np.int64), np.zeros(0, np.int64)
    # Distances are whole centimetres: there are few different ones, however many rows.
    apart = [(np.zeros(0), np.zeros(0, np.int64))] * size
    for events in tables:
        sound, clip = events.class_index.astype(np.int64), events.clip.astype(np.int64)
        clips += len(events.clips)
        silent += len(events.clips) - len(np.unique(clip))
        frames += np.bincount(sound, minlength=size)
        seen += np.bincount(sound, events.onscreen, minlength=size)
        clips_with += np.bincount(np.unique(clip * size + sound) % size, minlength=size)
        if events.elevation_deg is None:
            azimuth += _histogram(sound, events.azimuth_deg, AZIMUTH_EDGES, size)
        else:
            around = np.histogram2d(events.azimuth_deg, events.elevation_deg, bins=list(SPHERE_EDGES))[0]
            sphere = around.astype(np.int64) if sphere is None else sphere + around.astype(np.int64)
            each = _histogram(sound, events.azimuth_deg, SPHERE_EDGES[0], size)
            azimuth = each if azimuth.shape != each.shape else azimuth + each
        distance += _histogram(sound, np.minimum(events.distance_m, DISTANCE_EDGES[-1]), DISTANCE_EDGES, size)
        time = clip * (int(events.frame.max(initial=0)) + 1) + events.frame
        polyphony = _sum(polyphony, _how_many(time))
        same_class = _sum(same_class, _how_many(time * size + sound))
        for index in np.unique(sound).tolist():
            values, counts = np.unique(events.distance_m[sound == index], return_counts=True)
            known, places = np.unique(np.concatenate([apart[index][0], values]), return_inverse=True)
            apart[index] = known, np.bincount(places, np.concatenate([apart[index][1], counts])).astype(np.int64)
    distance[[not known.any() for known, _ in apart]] = 0
    with np.errstate(invalid="ignore"):
        onscreen = seen / np.where(frames > 0, frames, np.nan)
    return LabelStats(
        classes=taxonomy.classes,
        clips=clips,
        silent_clips=silent,
        source_frames=frames,
        clips_with=clips_with,
        onscreen=onscreen,
        azimuth=azimuth,
        distance=distance,
        distance_quartiles_m=np.array([_quartiles(*one) for one in apart]),
        polyphony=polyphony,
        same_class=same_class,
        sphere=sphere,
    )


def _sum(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the sum of counts of which one may be longer."""
    longest = max(len(first), len(second))
    return np.pad(first, (0, longest - len(first))) + np.pad(second, (0, longest - len(second)))


def _quartiles(values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> list[float]:
    """Return the quartiles of ascending values that occur so many times each, NaN of none but 0."""
    if not values.any():
        return [math.nan] * 3
    last = np.cumsum(counts) - 1
    found = []
    for share in (0.25, 0.5, 0.75):
        place = share * last[-1]
        low, high = (values[np.searchsorted(last, edge)] for edge in (math.floor(place), math.ceil(place)))
        found.append(float(low + (high - low) * (place - math.floor(place))))
    return found


MOST_COUNTED = 40
"""Sources at a time that are counted apart: no room has more, a broken table may."""


def _how_many(cells: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many cells hold 1, 2, … rows; the last of MOST_COUNTED counts those with more too."""
    return np.bincount(np.unique(cells, return_counts=True)[1].clip(max=MOST_COUNTED))[1:].astype(np.int64)


def _histogram(
    sound: npt.NDArray[np.int64], values: npt.NDArray[np.float64], edges: npt.NDArray[Any], size: int
) -> npt.NDArray[np.int64]:
    """Return (C, bins) counts."""
    bins = [np.arange(size + 1) - 0.5, edges]
    return np.histogram2d(sound, values, bins=bins)[0].astype(np.int64)


def table_rows(stats: LabelStats) -> list[tuple[str, ...]]:
    """Return one row per class: number, name, source frames, share, clips, share on screen, quartiles of distance."""
    total = max(int(stats.source_frames.sum()), 1)
    rows: list[tuple[str, ...]] = []
    for index, name in enumerate(stats.classes):
        frames = int(stats.source_frames[index])
        low, middle, high = stats.distance_quartiles_m[index]
        rows.append(
            (
                str(index),
                name,
                f"{frames:,}",
                f"{frames / total:.1%}",
                f"{stats.clips_with[index]:,}",
                f"{stats.onscreen[index]:.0%}" if frames and stats.sphere is None else "–",
                f"{low:.1f} / {middle:.1f} / {high:.1f}" if not math.isnan(middle) else "–",
            )
        )
    return rows


def summary(stats: LabelStats) -> str:
    """Return one line on the whole set."""
    frames = int(stats.polyphony.sum())
    together = ", ".join(f"{count / max(frames, 1):.0%} {n}" for n, count in enumerate(stats.polyphony.tolist(), 1))
    total = int(stats.source_frames.sum())
    seen = float(np.nansum(stats.onscreen * stats.source_frames)) / max(total, 1)
    where = f"{seen:.0%} on screen" if stats.sphere is None else "all around"
    return (
        f"{stats.clips:,} clips, {stats.silent_clips:,} of them silent; {total:,} source frames "
        f"({total / LABEL_RATE / 60:.1f} minutes), {where}; sources at a time: {together or 'none'}"
    )


def draw(stats: LabelStats, path: Path) -> None:
    """Write a picture (PNG) of the figures: classes, azimuth, distance, polyphony."""
    from dcase_seld.media.writing import open_pyplot

    plt = open_pyplot()
    figure, axes = plt.subplots(2, 2, figsize=(13, 9), constrained_layout=True)
    place = np.arange(len(stats.classes))
    seen = np.nan_to_num(stats.onscreen) * stats.source_frames
    axes[0, 0].barh(place, seen, color="#2a7fba", label="on screen")
    axes[0, 0].barh(place, stats.source_frames - seen, left=seen, color="#c9d6df", label="off screen")
    axes[0, 0].set(yticks=place, yticklabels=stats.classes, xlabel="source frames (100 ms)", title="Classes")
    axes[0, 0].invert_yaxis()
    if stats.sphere is None:  # nothing is on screen or off where pictures show all around
        axes[0, 0].legend()
    share = stats.azimuth / np.maximum(stats.azimuth.sum(axis=1, keepdims=True), 1)
    edge = float(stats.azimuth_edges[-1])
    title = {"xlabel": "azimuth in degrees, left is +", "title": "Directions"}
    if stats.sphere is None:
        axes[0, 1].imshow(share, aspect="auto", cmap="viridis", extent=(-edge, edge, len(place) - 0.5, -0.5))
        axes[0, 1].set(yticks=place, yticklabels=stats.classes, **title)
    else:
        axes[0, 1].imshow(stats.sphere.T, origin="lower", cmap="viridis", extent=(-edge, edge, -90, 90))
        axes[0, 1].set(ylabel="elevation in degrees", xticks=range(-180, 181, 60), yticks=range(-90, 91, 30), **title)
    axes[0, 1].invert_xaxis()
    axes[1, 0].bar(DISTANCE_EDGES[:-1] + 0.25, stats.distance.sum(axis=0), width=0.45, color="#2a7fba")
    axes[1, 0].set(
        xlabel="distance in metres (the last bar: 9.5 and beyond)", ylabel="source frames", title="Distances"
    )
    for label, counts, offset in (("all classes", stats.polyphony, -0.2), ("one class", stats.same_class, 0.2)):
        axes[1, 1].bar(np.arange(1, len(counts) + 1) + offset, counts, width=0.4, label=label)
    axes[1, 1].set(xlabel="sources at a time", ylabel="label frames", title="Polyphony", yscale="symlog")
    axes[1, 1].xaxis.get_major_locator().set_params(integer=True)
    axes[1, 1].yaxis.set_major_formatter("{x:,.0f}")  # a logarithmic axis writes formulas, which are not set here
    axes[1, 1].legend()
    figure.suptitle(summary(stats), fontsize=10)
    with whole_file(path) as part:
        figure.savefig(part, format="png", dpi=110, metadata={"Software": "dcase-seld"})
    plt.close(figure)
