"""Figures of merit against values worked out by hand."""

import numpy as np
import pytest

from models.train.metrics import average_precision, bootstrap, roc_auc

TRUTH = np.array([False, False, True, True])


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1, 2, 3, 4], 1.0),
        ([4, 3, 2, 1], 0.0),
        ([1, 1, 1, 1], 0.5),
        ([1, 3, 2, 4], 0.75),
        ([1, 2, 2, 3], 0.875),
    ],
)
def test_roc_auc(scores: list[float], expected: float) -> None:
    assert roc_auc(TRUTH, np.array(scores, float)) == expected


def test_average_precision() -> None:
    assert average_precision(TRUTH, np.array([1.0, 2, 3, 4])) == 1
    assert average_precision(TRUTH, np.array([1.0, 3, 2, 4])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(TRUTH, np.ones(4)) == 0.5


def test_one_class_has_no_auc() -> None:
    assert np.isnan(roc_auc(np.array([True, True]), np.array([1.0, 2.0])))


def test_the_bootstrap_draws_whole_groups() -> None:
    """Two groups of equal members leave only three possible means, however many rows there are."""
    values = np.array([0.0] * 50 + [1.0] * 50)
    groups = ["a"] * 50 + ["b"] * 50
    seen = set()

    def mean(rows: np.ndarray) -> float:
        seen.add(float(values[rows].mean()))
        return float(values[rows].mean())

    estimate = bootstrap(mean, groups, draws=200)
    assert seen == {0.0, 0.5, 1.0}
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.5, 0.0, 1.0, 100)
