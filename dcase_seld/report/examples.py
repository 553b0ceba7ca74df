"""The best and worst clips of a report: picture with directions, azimuths over time, and a sound player."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

import numpy as np

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import azimuth_to_column
from dcase_seld.core.segments import link
from dcase_seld.core.task import LABEL_RATE, ONSCREEN_LIMIT_DEG, VIDEO_HEIGHT, VIDEO_WIDTH
from dcase_seld.report.charts import COLOURS, legend
from dcase_seld.report.errors import clip_scores
from dcase_seld.report.run import Run

WIDTH, HEIGHT, LEFT, TOP = 400, 170, 34, 6

MAP = (400, 200)
"""Width and height of the map of all directions."""


def chosen_clips(run: Run, most: int) -> tuple[list[str], list[str]]:
    """Return the names of the best and of the worst clips by F; among equals those with more annotated events."""
    scores = clip_scores(run)
    rows = np.bincount(run.reference.clip, minlength=len(run.reference.clips))
    events = dict(zip(run.reference.clips, rows.tolist(), strict=True))
    order = sorted(scores, key=lambda clip: (-scores[clip], -events[clip], clip))
    best = order[:most]
    worst = sorted(order[most:], key=lambda clip: (scores[clip], -events[clip], clip))[:most]
    return best, worst


def example(clip: str, runs: Sequence[Run]) -> str:
    """Return one clip as an HTML card; `runs` beyond the first are drawn where they know the clip."""
    first = runs[0]
    score = clip_scores(first).get(clip, 0.0)
    whose = f", {escape(first.name)}" if len(runs) > 1 else ""
    parts = [f"<h4>{escape(clip)}</h4>", f"<p class='note'>{first.f_name} of this clip{whose}: {100 * score:.0f} %</p>"]
    tables = [first.reference, *(run.prediction for run in runs if clip in run.prediction.clips)]
    classes = sorted({index for table in tables for index in table.select_clips([clip]).class_index.tolist()})
    parts.insert(1, _picture(clip, first) if first.reference.elevation_deg is None else _map(clip, first, classes))
    for run in runs:
        if clip in run.prediction.clips:
            parts.append(_timeline(clip, run, len(runs) > 1, classes))
    parts.append(_player(clip, first))
    return f'<article class="clip">{"".join(parts)}</article>'


def _player(clip: str, run: Run) -> str:
    from dcase_seld.media.writing import mp3_bytes

    try:
        sound = None if run.clips is None else run.clips.sound(clip)
    except SeldError as error:
        return f'<p class="note">{escape(error.problem)}</p>'
    if sound is None:
        return ""
    data = b64encode(mp3_bytes(*sound)).decode()
    return (
        f'<audio controls="" preload="metadata" aria-label="sound of {escape(clip, quote=True)}" '
        f'src="data:audio/mpeg;base64,{data}"></audio>'
    )


def _picture(clip: str, run: Run) -> str:
    """Return the frame where most is annotated on screen, with annotated (full) and predicted (dashed) directions."""
    video = None if run.clips is None else run.clips.video(clip)
    if video is None:
        return ""
    from dcase_seld.media.frames import read_frames
    from dcase_seld.media.writing import jpeg_bytes

    truth, guess = run.reference.select_clips([clip]), run.prediction.select_clips([clip])
    seen = np.bincount(truth.frame, 1.0 + 4.0 * truth.onscreen, minlength=1)
    frame = int(seen.argmax())
    try:
        image = read_frames(video, [(frame + 0.5) / LABEL_RATE]).images[0]
    except SeldError as error:
        return f'<p class="note">{escape(error.problem)}</p>'
    if image is None:
        return ""
    lines = []
    for table, kind in ((truth, "truth"), (guess, "guess")):
        for place, row in enumerate(np.flatnonzero(table.frame == frame)):
            azimuth = float(table.azimuth_deg[row])
            if abs(azimuth) <= ONSCREEN_LIMIT_DEG:
                x = float(np.clip(azimuth_to_column(azimuth), 2, VIDEO_WIDTH - 2))
                name = escape(run.taxonomy.classes[int(table.class_index[row])])
                side = ("start", 6) if x < VIDEO_WIDTH / 2 else ("end", -6)
                y = 24 + 21 * place if kind == "truth" else VIDEO_HEIGHT - 12 - 21 * place
                off = "" if table.onscreen[row] else " (off screen)"
                lines.append(f'<path class="aim {kind}" d="M{x:.0f} 0V{VIDEO_HEIGHT}"/>')
                lines.append(
                    f'<text class="aim" x="{x + side[1]:.0f}" y="{y}" text-anchor="{side[0]}">{name}{off}</text>'
                )
    data = b64encode(jpeg_bytes(image)).decode()
    told = f"frame at {(frame + 0.5) / LABEL_RATE:.2f} s; annotated directions full, predicted dashed"
    heard = [
        f"{kind}: {_directions(run, table, frame)}" for table, kind in ((truth, "annotated"), (guess, "predicted"))
    ]
    alt = escape("; ".join([told, *heard]), quote=True)
    return (
        f'<svg class="picture" viewBox="0 0 {VIDEO_WIDTH} {VIDEO_HEIGHT}" role="img" aria-label="{alt}">'
        f'<image href="data:image/jpeg;base64,{data}" width="{VIDEO_WIDTH}" height="{VIDEO_HEIGHT}" '
        f'preserveAspectRatio="none"/>{"".join(lines)}</svg><p class="note">{told}</p>'
    )


def _map(clip: str, run: Run, classes: Sequence[int]) -> str:
    """Return the sphere, azimuth by elevation, with all directions of a clip; over a frame where there is a video."""
    video = None if run.clips is None else run.clips.video(clip)
    truth, guess = run.reference.select_clips([clip]), run.prediction.select_clips([clip])
    body, told = [], "all around, azimuth by elevation; large pale: annotated, dots: predicted"
    if video is not None:
        from dcase_seld.media.frames import read_frames
        from dcase_seld.media.writing import jpeg_bytes

        frame = int(np.bincount(truth.frame, minlength=1).argmax())
        try:
            image = read_frames(video, [(frame + 0.5) / LABEL_RATE]).images[0]
        except SeldError as error:
            told, image = f"{told} ({error.problem})", None
        if image is not None:
            import cv2

            data = b64encode(jpeg_bytes(np.asarray(cv2.resize(image, (2 * MAP[0], 2 * MAP[1])), np.uint8))).decode()
            body.append(f'<image href="data:image/jpeg;base64,{data}" width="{MAP[0]}" height="{MAP[1]}"/>')
            told = f"{told}; over the frame at {(frame + 0.5) / LABEL_RATE:.2f} s"
    for azimuth, label in ((90, "90° left"), (0, "front"), (-90, "90° right")):
        x = (180 - azimuth) / 360 * MAP[0]
        body.append(f'<path class="grid" d="M{x:.0f} 0V{MAP[1]}"/>')
        body.append(f'<text class="small" x="{x:.0f}" y="{MAP[1] - 4}" text-anchor="middle">{label}</text>')
    body.append(f'<path class="grid" d="M0 {MAP[1] // 2}H{MAP[0]}"/>')
    colour = {index: place % COLOURS for place, index in enumerate(classes)}
    for table, kind, radius in ((truth, " band", 7.0), (guess, "", 2.2)):
        height = np.zeros(len(table)) if table.elevation_deg is None else table.elevation_deg
        places = zip(table.class_index.tolist(), table.azimuth_deg.tolist(), height.tolist(), strict=True)
        for index, azimuth, up in sorted({(c, round(a), round(e)) for c, a, e in places}):
            x, y = (180 - azimuth) / 360 * MAP[0], (90 - up) / 180 * MAP[1]
            body.append(f'<circle class="s{colour[index]}{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
    alt = escape(f"{told}; annotated: {_told(run, truth)}; predicted: {_told(run, guess)}", quote=True)
    return (
        f'<svg class="time" viewBox="0 0 {MAP[0]} {MAP[1]}" role="img" aria-label="{alt}">{"".join(body)}</svg>'
        f'<p class="note">{escape(told)}</p>'
    )


def _directions(run: Run, table: Events, frame: int) -> str:
    """Return what sounds in a frame, in words."""
    rows = np.flatnonzero(table.frame == frame)
    names = [
        f"{run.taxonomy.classes[int(table.class_index[row])]} {_side(float(table.azimuth_deg[row]))}" for row in rows
    ]
    return ", ".join(names) or "nothing"


def _side(azimuth: float) -> str:
    return "in front" if abs(azimuth) < 0.5 else f"{abs(azimuth):.0f}° {'left' if azimuth > 0 else 'right'}"


def _told(run: Run, table: Events, most: int = 8) -> str:
    """Return the events of a clip in words."""
    events = [
        f"{run.taxonomy.classes[one.class_index]} {one.onset_s:.1f}–{one.offset_s:.1f} s {_side(one.azimuth_deg)}"
        for one in link(table)
    ]
    return listing(events, most) or "nothing"


def _timeline(clip: str, run: Run, named: bool, classes: Sequence[int]) -> str:
    """Return azimuth over time: annotated sources as bands, predicted ones as dots, a colour per class."""
    truth, guess = run.reference.select_clips([clip]), run.prediction.select_clips([clip])
    colour = {index: place % COLOURS for place, index in enumerate(classes)}
    frames = max([49, *truth.frame.tolist(), *guess.frame.tolist()]) + 1
    wide, tall = WIDTH - LEFT - 6, HEIGHT - TOP - 20
    step = wide / frames

    reach = 90.0 if run.reference.elevation_deg is None else 180.0

    def y(azimuth: float) -> float:
        return TOP + tall * (reach - azimuth) / (2.0 * reach)

    body = []
    for azimuth, label in ((90, "left"), (0, "0°"), (-90, "right"), *(((180, "back"),) if reach > 90 else ())):
        body.append(f'<path class="grid" d="M{LEFT} {y(azimuth):.1f}h{wide}"/>')
        body.append(f'<text class="small" x="{LEFT - 4}" y="{y(azimuth) + 4:.1f}" text-anchor="end">{label}</text>')
    seconds = frames // LABEL_RATE
    for second in range(0, seconds + 1, max(1, seconds // 5)):
        x = LEFT + second * LABEL_RATE * step
        body.append(f'<text class="small" x="{x:.1f}" y="{HEIGHT - 5}" text-anchor="middle">{second} s</text>')
    body += [
        f'<rect class="s{colour[c]} band" x="{LEFT + f * step:.1f}" y="{y(a) - 5:.1f}" '
        f'width="{step + 0.2:.1f}" height="10"/>'
        for f, a, c in _rows(truth)
    ]
    body += [
        f'<circle class="s{colour[c]}" cx="{LEFT + (f + 0.5) * step:.1f}" cy="{y(a):.1f}" r="2.2"/>'
        for f, a, c in _rows(guess)
    ]
    title = f"{escape(run.name)}: " if named else ""
    names = legend([run.taxonomy.classes[index] for index in classes])
    alt = f"azimuth over time; annotated: {_told(run, truth)}; predicted by {run.name}: {_told(run, guess)}"
    return (
        f'<svg class="time" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(alt, quote=True)}">'
        f"{''.join(body)}</svg>"
        f'{names}<p class="note">{title}azimuth over time; bands: annotated, dots: predicted</p>'
    )


def _rows(table: Events) -> list[tuple[int, float, int]]:
    return list(zip(table.frame.tolist(), table.azimuth_deg.tolist(), table.class_index.tolist(), strict=True))
