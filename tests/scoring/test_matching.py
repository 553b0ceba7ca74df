import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dcase_seld.scoring.counts import match


@pytest.mark.parametrize("rows", range(1, 7))
@pytest.mark.parametrize("columns", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("most", [1, 2, 5, 60])
def test_pairs_equal_scipy_also_where_the_optimum_is_not_unique(rows, columns, most):
    generator = np.random.default_rng(rows * 1000 + columns * 100 + most)
    line = np.abs(generator.integers(0, most, (40, rows, 1)) - generator.integers(0, most, (40, 1, columns)))
    table = generator.integers(0, most, (40, rows, columns))
    for cost in (line.astype(float), table.astype(float)):
        for ours, official in zip(zip(*match(cost), strict=True), map(linear_sum_assignment, cost), strict=True):
            assert set(zip(*ours, strict=True)) == set(zip(*official, strict=True))


def test_large_tables_equal_scipy():
    generator = np.random.default_rng(1)
    cost = np.abs(generator.integers(-90, 90, (3, 60, 1)) - generator.integers(-90, 90, (3, 1, 45))).astype(float)
    rows, columns = match(cost)
    for table, row, column in zip(cost, rows, columns, strict=True):
        assert set(zip(row, column, strict=True)) == set(zip(*linear_sum_assignment(table), strict=True))


def test_float_costs_that_are_equal_on_paper_pair_like_scipy():
    """Angles of whole degrees tie but for their last digit, which depends on the order of additions."""
    generator = np.random.default_rng(2)
    for _ in range(3000):
        rows, columns = generator.integers(1, 6, 2)
        a, b = (np.deg2rad(10 * generator.integers(-18, 18, size)) for size in (rows, columns))
        e, f = (np.deg2rad(10 * generator.integers(-2, 3, size)) for size in (rows, columns))
        product = np.sin(e)[:, None] * np.sin(f) + np.cos(e)[:, None] * np.cos(f) * np.cos(a[:, None] - b)
        cost = np.rad2deg(np.arccos(np.clip(product, -1, 1)))
        row, column = (side[0].tolist() for side in match(cost[None]))
        assert set(zip(row, column, strict=True)) == set(zip(*linear_sum_assignment(cost), strict=True))
