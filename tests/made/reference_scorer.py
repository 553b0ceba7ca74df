"""A slow, plain scorer, written from the task's description alone, that the fast one is compared with.

It works frame by frame on lists, matches with SciPy's own solver, and knows no NumPy tricks.
"""

import sys

import numpy as np
from scipy.optimize import linear_sum_assignment

EPSILON = sys.float_info.epsilon


def front(azimuth):
    """Return an integer azimuth folded to the front."""
    while azimuth > 180:
        azimuth -= 360
    while azimuth < -180:
        azimuth += 360
    if azimuth > 90:
        return 180 - azimuth
    return -180 - azimuth if azimuth < -90 else azimuth


def sources(rows, frame, class_index):
    """Return the sources of a frame and class as [azimuth, distance, onscreen], in the order of their tracks' use."""
    tracks = {}
    for row in rows:
        if row[0] != frame or row[1] != class_index:
            continue
        track = row[2]
        if track in tracks or track > 9:
            free = [number for number in range(10) if number not in tracks]
            track = free[0] if free else 0
        tracks[track] = row[3:]
    return list(tracks.values())


def count(predicted, annotated, n_classes, complete):
    """Return one clip's sums per class, in the order of COUNTS: hits, on-screen hits, matches, extras, misses, …."""
    sums = [[0.0] * 11 for _ in range(n_classes)]
    frames = [row[0] for row in annotated]
    last = max(frames + [row[0] for row in predicted], default=-1) + 1 if complete else max(frames, default=0)
    for frame in range(last):
        for class_index in range(n_classes):
            truth = sources(annotated, frame, class_index)
            guess = sources(predicted, frame, class_index)
            total = sums[class_index]
            total[3] += max(0, len(guess) - len(truth))
            total[4] += max(0, len(truth) - len(guess))
            if not truth or not guess:
                continue
            cost = np.array([[abs(front(t[0]) - front(g[0])) for g in guess] for t in truth], dtype=float)
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                far = abs(truth[row][1] - guess[column][1])
                relative = far / (truth[row][1] + EPSILON)
                right = truth[row][2] == guess[column][2]
                near, enough = cost[row, column] <= 20, relative <= 1
                for place, value in enumerate([near and enough, near and enough and right, 1]):
                    total[place] += value
                for place, value in enumerate([cost[row, column], far, relative, right, near, enough], start=5):
                    total[place] += value
    return sums


def figures(clips, n_classes, average):
    """Return the six figures and their class-wise values of per-clip counts."""
    total = [[sum(clip[c][k] for clip in clips) for k in range(9)] for c in range(n_classes)]

    def six(t):
        bottom = t[2] + (t[3] + t[4]) / 2
        f_scores = [t[0] / bottom if bottom else 0.0, t[1] / bottom if bottom else 0.0]
        return f_scores + [t[k] / t[2] if t[2] else None for k in range(5, 9)]

    classwise = [six(t) for t in total]
    if average == "micro":
        return six([sum(t[k] for t in total) for k in range(9)]), classwise
    overall = []
    for place in range(6):
        known = [row[place] for row in classwise if row[place] is not None]
        overall.append(sum(known) / len(known) if known else None)
    return overall, classwise


def leave_one_out(clips, n_classes, average):
    """Return per figure (value, estimate, standard error, low, high) by leaving out one clip at a time."""
    from scipy import stats

    whole, _ = figures(clips, n_classes, average)
    parts = [figures(clips[:k] + clips[k + 1 :], n_classes, average)[0] for k in range(len(clips))]
    n = len(clips)
    reach = stats.t.ppf(0.975, n - 1)
    result = []
    for place, value in enumerate(whole):
        column = np.array([part[place] for part in parts], dtype=float)
        estimate = value - (n - 1) * (column.mean() - value)
        error = np.sqrt((n - 1) * ((column - column.mean()) ** 2).mean())
        result.append((value, estimate, error, estimate - reach * error, estimate + reach * error))
    return result
