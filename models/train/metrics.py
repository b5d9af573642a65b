"""Figures of merit with bootstrap intervals that draw whole groups, never single radiographs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % bootstrap interval; n: radiographs behind it."""

    value: float
    low: float
    high: float
    n: int


def roc_auc(abnormal: Truth, score: NDArray[np.floating]) -> float:
    """Area under the ROC curve, ties counted half; nan without both classes."""
    positive, negative = score[abnormal], score[~abnormal]
    if positive.size == 0 or negative.size == 0:
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    not_above = np.searchsorted(ordered, positive, side="right")
    return float((below + not_above).mean() / 2 / negative.size)


def average_precision(abnormal: Truth, score: NDArray[np.floating]) -> float:
    """Area under the precision-recall steps; tied scores enter together. nan without abnormal ones."""
    if not abnormal.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits, ranked = np.cumsum(abnormal[order]), score[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    precision = hits[last_of_tie] / (last_of_tie + 1)
    recall = hits[last_of_tie] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float],
    groups: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Estimate:
    """`statistic` of all rows, with the interval from resampling groups with replacement."""
    drawn = [statistic(rows) for rows in _resampled(tuple(groups), draws, seed)]
    finite = np.asarray(drawn)[np.isfinite(drawn)]
    everything = np.arange(len(groups))
    low, high = np.percentile(finite, (2.5, 97.5)) if finite.size else (np.nan, np.nan)
    return Estimate(value=statistic(everything), low=float(low), high=float(high), n=len(groups))


@lru_cache(maxsize=8)
def _resampled(groups: tuple[str, ...], draws: int, seed: int) -> tuple[NDArray[np.intp], ...]:
    """Rows of each draw; many statistics are taken of the same draws."""
    rng = np.random.default_rng(seed)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    rows = [np.flatnonzero(member == index) for index in range(names.size)]
    return tuple(
        np.concatenate([rows[index] for index in rng.integers(names.size, size=names.size)])
        for _ in range(draws)
    )
