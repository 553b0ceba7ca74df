"""The scorers of 2024 and 2023 once more, written as slowly and plainly as the rules read, for comparison."""

import math
import warnings

import numpy as np
from scipy import stats
from scipy.optimize import linear_sum_assignment


def angle_2024(a, b):
    first, second = (math.sqrt(sum(v**2 for v in one[:3]) + 1e-10) for one in (a, b))
    return math.degrees(math.acos(max(-1.0, min(1.0, sum(a[k] / first * (b[k] / second) for k in range(3))))))


def angle_2023(a, b):
    product = math.sin(a[4]) * math.sin(b[4]) + math.cos(a[4]) * math.cos(b[4]) * math.cos(a[3] - b[3])
    return math.degrees(math.acos(max(-1.0, min(1.0, product))))


def pairs(truth, guess, angle):
    """Return (row, column, degrees) of the cheapest matching of two lists of places."""
    cost = np.array([[angle(a, b) for b in guess] for a in truth])
    return [(i, j, cost[i, j]) for i, j in zip(*linear_sum_assignment(cost), strict=True)]


def frame_sums(truth, guess, classes, last):
    """Return class → sums of a clip as 2024 counts, and the numerator of its error rate; rows: frame, class, place."""
    sums = [dict.fromkeys(("hit", "match", "extra", "miss", "references", "angle", "distance", "relative"), 0.0)
            for _ in range(classes)]  # fmt: skip
    errors = 0
    for frame in range(last):
        wrong = missed = 0
        for kind, n in enumerate(sums):
            a, b = ([p for f, c, p in rows if (f, c) == (frame, kind)] for rows in (truth, guess))
            n["references"] += len(a)
            found = pairs(a, b, angle_2024) if a and b else []
            for i, j, degrees in found:
                off = abs(a[i][5] - b[j][5])
                hit = degrees <= 20 and off / (a[i][5] + np.finfo(float).eps) <= 1
                n["hit"] += hit
                wrong += not hit
                n["angle"] += degrees
                n["distance"] += off
                n["relative"] += off / (a[i][5] + np.finfo(float).eps)
            n["match"] += len(found)
            n["extra"] += len(b) - len(found)
            n["miss"] += len(a) - len(found)
            wrong += len(b) - len(found)
            missed += len(a) - len(found)
        errors += max(wrong, missed)
    return sums, errors


def segment_sums(truth, guess, classes, last):
    """Return the same as 2023 counts, in segments of ten frames."""
    sums = [dict.fromkeys(("hit", "match", "extra", "miss", "references", "angle"), 0.0) for _ in range(classes)]
    errors = 0
    for start in range(0, 10 * math.ceil(last / 10), 10):
        wrong = missed = 0
        for kind, n in enumerate(sums):
            a, b = (
                {f: [p for g, c, p in rows if (g, c) == (f, kind)] for f in range(start, start + 10)}
                for rows in (truth, guess)
            )
            n_a, n_b = (max(map(len, side.values())) for side in (a, b))
            n["references"] += n_a
            if n_a and n_b:
                tracks = {}
                for frame in range(start, start + 10):
                    if a[frame] and b[frame]:
                        for i, _, degrees in pairs(a[frame], b[frame], angle_2023):
                            tracks.setdefault(i, []).append(degrees)
                for degrees in tracks.values():
                    hit = sum(degrees) / len(degrees) <= 20
                    n["hit"] += hit
                    wrong += not hit
                    n["angle"] += sum(degrees) / len(degrees)
                n["match"] += len(tracks)
                extra, miss = (max(0, n_b - n_a), max(0, n_a - n_b)) if tracks else (0, n_b)
            else:
                extra, miss = n_b, n_a
            n["extra"] += extra
            n["miss"] += miss
            wrong += extra
            missed += miss
        errors += max(wrong, missed)
    return sums, errors


def figures(clips, task, average):
    """Return overall figures and class-wise ones (name → one value per class) of clips' sums, as the programs do."""
    eps = np.finfo(float).eps
    names = list(clips[0][0][0]) if clips else ["hit", "match", "extra", "miss", "references", "angle", "relative"]
    width = len(clips[0][0]) if clips else 3
    total = {name: np.array([sum(sums[kind][name] for sums, _ in clips) for kind in range(width)]) for name in names}
    rate = sum(errors for _, errors in clips) / (total["references"].sum() + eps)

    def made(n, rate):
        with np.errstate(invalid="ignore", divide="ignore"):
            found = n["match"] > 0
            out = {"ER": rate, "F": n["hit"] / (eps + n["match"] + 0.5 * (n["extra"] + n["miss"]))}
            out["LR"] = n["match"] / (eps + n["match"] + n["miss"])
            angle = n["angle"] / (n["match"] + eps)
            if task == "dcase2023":
                out["LE_deg"] = np.where(found, angle, 180.0)
                out["SELD"] = np.mean([rate, 1 - out["F"], out["LE_deg"] / 180, 1 - out["LR"]], axis=0)
                return out
            out["DOAE_deg"] = np.where(found, angle, np.nan)
            out["RDE"] = np.where(found, n["relative"] / (n["match"] + eps), np.nan)
            out["SELD"] = np.nanmean([1 - out["F"], out["DOAE_deg"] / 180, out["RDE"]], axis=0)
            return out

    classwise = made(total, np.repeat(rate, width))
    if average == "micro":
        return made({name: value.sum() for name, value in total.items()}, rate), classwise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a mean of no class at all is not a number
        return {name: np.nanmean(value) if name[-3:] in ("deg", "RDE") else value.mean()
                for name, value in classwise.items()}, classwise  # fmt: skip


def interval(value, parts):
    """Return the 95 % interval of a value, of those with one clip left out."""
    n, mean = len(parts), np.mean(parts)
    error = np.sqrt((n - 1) * np.mean((np.array(parts) - mean) ** 2))
    reach = stats.t.ppf(0.975, n - 1) * error
    return [value - (n - 1) * (mean - value) - reach, value - (n - 1) * (mean - value) + reach]
