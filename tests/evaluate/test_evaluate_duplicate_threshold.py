"""From which cosine on two scans are likely one: what 99 % of scans do not reach with any that is not theirs."""

import numpy as np
import pytest

from sonoseek.core import InvalidValueError
from sonoseek.evaluate.ood import fit_duplicate_threshold


def at(cosine, *, count):
    """`count` unit vectors, each in a plane of its own, and partners at that cosine."""
    ones, partners = np.zeros((count, 2 * count)), np.zeros((count, 2 * count))
    rows = np.arange(count)
    ones[rows, 2 * rows] = 1
    partners[rows, 2 * rows], partners[rows, 2 * rows + 1] = cosine, np.sqrt(1 - cosine**2)
    return ones, partners


def test_the_border_lies_where_other_groups_end():
    scans, others = at(0.9, count=40)
    own = np.arange(40)
    found = fit_duplicate_threshold(
        scans, own, gallery=np.concatenate([scans * 3, others]), gallery_groups=np.r_[own, own + 40]
    )
    assert found == pytest.approx(0.9, abs=1e-6)  # a scan and its copies are no stranger to itself
    taken = fit_duplicate_threshold(scans, own, gallery=np.concatenate([scans, others]), gallery_groups=np.r_[own, own])
    assert taken == 0.8  # nobody else is near: the floor


def test_one_far_too_near_does_not_move_it_and_the_ceiling_holds():
    scans, others = at(0.85, count=200)
    others[0] = scans[0]  # a copy that nobody has noticed
    numbers = np.arange(200)
    found = fit_duplicate_threshold(scans, numbers, gallery=others, gallery_groups=numbers + 200)
    assert found == pytest.approx(0.85, abs=1e-6)
    assert fit_duplicate_threshold(scans, numbers, gallery=scans, gallery_groups=numbers + 200) == 0.9995


def test_too_few_scans_are_refused():
    scans, others = at(0.9, count=5)
    with pytest.raises(InvalidValueError, match="at least 8"):
        fit_duplicate_threshold(scans, np.arange(5), gallery=others, gallery_groups=np.arange(5))
