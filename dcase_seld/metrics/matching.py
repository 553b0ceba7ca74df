"""Optimal one-to-one matching of many small cost tables at once, with ties falling as SciPy lets them fall.

On a line (azimuth) an optimum is seldom unique: two predictions on one side of two references cost the same either
way, yet the two ways differ in distance error. So the official figures can only be reached by the very order in which
the official scorer's solver looks at columns. This is the same method, vectorised over tables of one shape, because
calling the solver per table and importing its package would take longer than all the rest of scoring.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def match(cost: Floats) -> tuple[Indices, Indices]:
    """Return the row and the column of every pair of the cheapest matching, each (G, min(R, P)).

    Args:
        cost: (G, R, P) finite costs of G tables; integers in floating point keep ties exact.

    Source: D. F. Crouse, "On implementing 2D rectangular assignment algorithms" (2016), with the order of columns and
    the rule for ties of scipy.optimize.linear_sum_assignment; pairs are listed in another order than there.
    """
    _, rows, columns = cost.shape
    if rows > columns:
        column, row = match(np.swapaxes(cost, 1, 2))
        return row, column
    partner = _solve(np.ascontiguousarray(cost))
    return np.broadcast_to(np.arange(rows), partner.shape), partner


def _solve(cost: Floats) -> Indices:
    """Return the column of every row, (G, n), of tables (G, n, m) with n <= m: rows join one by one."""
    tables, n, m = cost.shape
    row_price, column_price = np.zeros((tables, n)), np.zeros((tables, m))
    row_of = np.full((tables, m), -1, np.intp)
    column_of = np.full((tables, n), -1, np.intp)
    each = np.arange(tables)
    for new in range(n):
        path, shortest, total, sink, visited = _cheapest_path(cost, row_price, column_price, row_of, new)
        # Prices move so that every pair on a visited path costs nothing.
        gain = np.where(visited, total[:, None] - shortest, 0.0)
        row_price[:, new] += total
        for earlier in range(new):
            row_price[:, earlier] += gain[each, column_of[:, earlier]]
        column_price -= gain
        # Walk the path back from its free column and re-pair the rows on it.
        walking, column = each, sink
        while walking.size:
            row = path[walking, column]
            row_of[walking, column] = row
            previous = column_of[walking, row]
            column_of[walking, row] = column
            going = row != new
            walking, column = walking[going], previous[going]
    return column_of


def _cheapest_path(
    cost: Floats, row_price: Floats, column_price: Floats, row_of: Indices, new: int
) -> tuple[Indices, Floats, Floats, Indices, npt.NDArray[np.bool_]]:
    """Return path (G, m), shortest (G, m), total (G,), sink (G,) and visited columns (G, m) of joining row `new`."""
    tables, _, m = cost.shape
    path = np.full((tables, m), -1, np.intp)
    shortest = np.full((tables, m), np.inf)
    visited = np.zeros((tables, m), np.bool_)
    total = np.zeros(tables)
    sink = np.full(tables, -1, np.intp)
    # The place of each column in the solver's list of columns to look at, which begins reversed.
    place = np.broadcast_to(np.arange(m)[::-1], (tables, m)).copy()
    active, row = np.arange(tables), np.full(tables, new, np.intp)
    for left in range(m, 0, -1):
        through = (total[active] - row_price[active, row])[:, None] + cost[active, row] - column_price[active]
        open_column = ~visited[active]
        distance = shortest[active]
        shorter = open_column & (through < distance)
        distance = np.where(shorter, through, distance)
        shortest[active] = distance
        path[active] = np.where(shorter, row[:, None], path[active])
        # Of equally near columns: the last free one in the list, else the first one.
        distance = np.where(open_column, distance, np.inf)
        nearest = distance.min(axis=1)
        where = place[active]
        rank = np.where(row_of[active] < 0, m + where, m - 1 - where)
        chosen = np.where(distance == nearest[:, None], rank, -1).argmax(axis=1)
        total[active] = nearest
        visited[active, chosen] = True
        # The last column of the list takes the place of the chosen one.
        hole = where[np.arange(active.size), chosen]
        place[active] = np.where(where == left - 1, hole[:, None], where)
        row = row_of[active, chosen]
        reached = row < 0
        sink[active[reached]] = chosen[reached]
        active, row = active[~reached], row[~reached]
        if not active.size:
            break
    return path, shortest, total, sink, visited
