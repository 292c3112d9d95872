"""The audit on real scans: BUSI's known copies, and copies in BUS-BRA that nobody had named."""

import csv
from collections import defaultdict
from itertools import combinations

import pytest

from sonoseek.datasets import open_dataset
from sonoseek.datasets.audit import audit

pytestmark = [pytest.mark.data, pytest.mark.slow]


class Part:
    """Some cases of a dataset."""

    def __init__(self, dataset, case_ids):
        self.whole, self.case_ids = dataset, set(case_ids)
        self.name, self.licence, self.citation = dataset.name, dataset.licence, dataset.citation

    def records(self):
        return tuple(record for record in self.whole.records() if record.case_id in self.case_ids)

    def load(self, case_id):
        return self.whole.load(case_id)

    def fingerprint(self, case_id):
        return self.whole.fingerprint(case_id)


def opened(name, folder):
    if not folder.is_dir():
        pytest.skip(f"real scans of {name} are looked for in {folder}, which is not there")
    return open_dataset(name, folder)


def pairs_by(rows, column):
    members = defaultdict(list)
    for row in rows:
        members[row[column]].append(row["file"].removesuffix(".png"))
    return {frozenset(pair) for ids in members.values() for pair in combinations(ids, 2)}


def test_busi_known_copies_are_found_and_little_else(real_data):
    """All scans that have a relation, and every third of those that have none: the quick part of the full figure."""
    dataset = opened("busi", real_data / "busi")
    rows = list(csv.DictReader((real_data / "busi" / "groups.csv").read_text("utf-8").splitlines()))
    # Pairs of one own_ncc_group: 223 with those that only a third scan ties; 222 pass the correlation themselves.
    known = pairs_by([row for row in rows if row["evidence"].startswith("identical-scan")], "own_ncc_group")
    allowed = pairs_by(rows, "group") | pairs_by(rows, "group_wide")
    related = {case_id for pair in allowed for case_id in pair}
    single = [record.case_id for record in dataset.records() if record.case_id not in related]
    result = audit(Part(dataset, related | set(single[::3])))

    found = {frozenset((pair.a, pair.b)) for pair in result.pairs}
    assert len(known) in {222, 223}
    assert len(found & known) / len(known) >= 0.95
    assert len(found - allowed) / len(found) <= 0.05  # neither the same scan nor the same lesion
    assert len(found - known) / len(found) <= 0.05  # strict: the same lesion in another frame counts as false too
    assert {frozenset((pair.a, pair.b)) for pair in result.related} <= allowed
    assert len(result.cross_label_groups) == 8
    assert result.unstated == ()
    assert [(pair.a, pair.b) for pair in result.pairs if pair.kind == "exact"] == [("benign (433)", "malignant (145)")]
    assert result.mask_leaks[0].balanced_accuracy == pytest.approx(2 / 3)


def test_bus_bra_holds_copies_across_patients(real_data):
    """Two marked and unmarked exports of one scan, filed under two patients: no published group says so."""
    dataset = opened("busbra", real_data / "busbra")
    copies = {("bus_0044", "bus_0065"), ("bus_0056", "bus_0091"), ("bus_0341", "bus_0356")}
    case_ids = [record.case_id for record in dataset.records()]
    result = audit(
        Part(dataset, [i for i in case_ids if i[:8] in {c for pair in copies for c in pair}] + case_ids[::20])
    )
    assert {(pair.a[:8], pair.b[:8]) for pair in result.pairs} == copies
    assert {(pair.a, pair.b) for pair in result.unstated} == {(pair.a, pair.b) for pair in result.pairs}
