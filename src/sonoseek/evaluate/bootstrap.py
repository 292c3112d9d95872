"""Intervals and paired tests by drawing groups, not scans: scans of one group stand and fall together.

Source: Field and Welsh, Bootstrapping clustered data, J. R. Stat. Soc. B 69 (2007): resample whole clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 1_000
LEVEL = 0.95
TIE = 1e-12
"""Differences of figures below this are none."""


@lru_cache(maxsize=8)
def group_weights(groups: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """How often each group is drawn in each resample: (resamples, groups), rows sum to `groups`; read-only."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=resamples).astype(np.float64)
    drawn.flags.writeable = False
    return drawn


def interval(values: Floats, *, around: float | None = None) -> tuple[float, float]:
    """The middle 95 % of resampled figures; NaN where none is defined.

    Args:
        values: (resamples,).
        around: the figure on the scans themselves, for one that resampling makes larger: the interval is shifted by
            the mean difference, and ends at 0.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if around is not None:
        shift = float(known.mean()) - around
        return max(0.0, float(low) - shift), max(0.0, float(high) - shift)
    return float(low), float(high)


def share_interval(values: Floats, *, value: float, groups: int) -> tuple[float, float]:
    """As `interval`, of a share; where all are right, or none, every resample says the same, and the exact one is used.

    Source: Clopper and Pearson, Biometrika 26 (1934), with the groups as trials.

    Args:
        values: (resamples,).
        value: on the scans themselves.
        groups: that the share is of; of an AUROC, those of the rarer kind.
    """
    low, high = interval(values)
    if groups and low == high == value and value in (0.0, 1.0):
        end = ((1 - LEVEL) / 2) ** (1 / groups)
        return (end, 1.0) if value else (0.0, 1 - end)
    return low, high


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One system minus another on the same scans: the difference, its 95 % interval, and a two-sided p."""

    value: float
    low: float
    high: float
    p: float


def paired_difference(one: Floats, other: Floats, *, value: float) -> Difference:
    """Compare two systems by figures of the same resamples.

    Args:
        one: (resamples,) of one system.
        other: the same of the other; row b of both is the same draw of groups.
        value: the difference on the scans themselves.

    Returns:
        p is twice the smaller share of resampled differences on either side of 0, never below 1/resamples.
    """
    differences = (one - other)[np.isfinite(one) & np.isfinite(other)]
    if not differences.size:
        return Difference(value=value, low=float("nan"), high=float("nan"), p=float("nan"))
    low, high = interval(differences)
    # machines round sums in other orders: what differs by less than that counts as equal, on both sides
    smaller = min(float(np.mean(differences <= TIE)), float(np.mean(differences >= -TIE)))
    return Difference(value=value, low=low, high=high, p=min(1.0, max(2 * smaller, 1 / differences.size)))


def mcnemar(one_right: NDArray[np.bool_] | Sequence[bool], other_right: NDArray[np.bool_] | Sequence[bool]) -> float:
    """Exact two-sided p that two systems are equally often right on the same scans (McNemar 1947); 1 if they agree."""
    one, other = np.asarray(one_right, dtype=np.bool_), np.asarray(other_right, dtype=np.bool_)
    only_one, only_other = int((one & ~other).sum()), int((~one & other).sum())
    if not only_one + only_other:
        return 1.0
    from scipy.stats import binomtest  # an extra: intervals alone go without it

    return float(binomtest(only_one, only_one + only_other, 0.5).pvalue)
