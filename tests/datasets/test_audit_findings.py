import csv
import json
from dataclasses import replace

import cv2
import fake_datasets
import numpy as np
import pytest
from audit_pictures import MemoryDataset, case, tissue

from sonoseek.core import DatasetError, ScanReadError, SplitError
from sonoseek.datasets import open_dataset
from sonoseek.datasets.audit import DuplicateGroup, audit, write_groups_csv
from sonoseek.datasets.splits import Fold, check_split, stratified_group_folds


def resaved(seed):
    return cv2.imdecode(cv2.imencode(".jpg", tissue(seed), [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_GRAYSCALE)


def drawn(*boxes, size=(240, 320)):
    mask = np.zeros(size, np.bool_)
    for top, left, side in boxes:
        mask[top : top + side, left : left + side] = True
    return mask


@pytest.fixture(scope="module")
def dataset():
    return MemoryDataset(
        [
            case("a", tissue(1), pathology="benign"),
            case("b", resaved(1), pathology="malignant"),
            case("c", tissue(2), group="known"),
            case("d", resaved(2), group="known"),
            case("e", tissue(3), patient_id="P1"),
            case("f", tissue(4), patient_id="P1"),
            case("g", tissue(5), pathology="normal"),
        ],
        broken={"f": ScanReadError("f.png: truncated; send it again")},
    )


@pytest.fixture(scope="module")
def result(dataset):
    folds = [Fold(train=("a", "c", "e"), test=("b", "d", "f")), Fold(train=("b", "a"), test=("c", "d"))]
    return audit(dataset, folds=folds)


def test_one_picture_with_two_labels_is_named(result):
    assert result.groups == (
        DuplicateGroup(case_ids=("a", "b"), labels=("benign", "malignant")),
        DuplicateGroup(case_ids=("c", "d"), labels=("benign", "benign")),
    )
    assert result.cross_label_groups == result.groups[:1]


def test_what_the_split_parts_is_listed_with_its_reason(result):
    assert {(c.fold, c.train, c.test, c.reason) for c in result.crossing} == {
        (0, "a", "b", "near"),
        (0, "c", "d", "near"),
        (0, "c", "d", "group"),
        (0, "e", "f", "patient"),  # stated, so it is seen although f cannot be read
    }


def test_a_copy_is_seen_to_cross_whichever_side_it_stands_on(dataset):
    (crossing,) = audit(dataset, folds=[Fold(train=("b",), test=("a",))]).crossing
    assert (crossing.train, crossing.test) == ("b", "a")


def test_pairs_that_the_dataset_does_not_know_of_are_named(result):
    assert [(p.a, p.b) for p in result.unstated] == [("a", "b")]


def test_a_split_by_what_must_stay_together_parts_nothing(dataset, result):
    assert set(result.keep_together) == {("a", "b"), ("c", "d"), ("e", "f"), ("g",)}
    of = {case_id: str(index) for index, ids in enumerate(result.keep_together) for case_id in ids}
    tied = MemoryDataset([case(c.case_id, c.scans[0].pixels, group=of[c.case_id]) for c in dataset.cases.values()])
    folds = stratified_group_folds(tied.records(), folds=2)
    for fold in folds:
        check_split(tied.records(), fold)
    assert audit(dataset, folds=folds).crossing == ()


@pytest.mark.parametrize("error", [ScanReadError("no image"), DatasetError("no mask"), FileNotFoundError("gone")])
def test_a_bad_file_stops_nothing(error):
    result = audit(
        MemoryDataset([case("a", tissue(1)), case("x", tissue(9)), case("b", resaved(1))], broken={"x": error})
    )
    assert [(item.case_id, item.reason) for item in result.unreadable] == [("x", str(error))]
    assert len(result.pairs) == 1
    assert (len(result.records), result.scans) == (3, 2)


def test_a_programming_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        audit(MemoryDataset([case("a", tissue(1))], broken={"a": ZeroDivisionError()}))


def test_a_split_of_another_dataset_is_refused_before_the_work(dataset):
    calls = []
    with pytest.raises(SplitError, match="'zz'"):
        audit(dataset, folds=[Fold(train=("a",), test=("zz",))], on_progress=lambda *step: calls.append(step))
    assert calls == []


def test_an_empty_dataset_has_nothing_to_find():
    result = audit(MemoryDataset([]))
    assert (result.pairs, result.groups, result.mask_leaks, result.mark_leaks) == ((), (), (), ())


def test_progress_rises_to_its_end(dataset):
    steps = []
    audit(dataset, on_progress=lambda done, total: steps.append((done, total)))
    assert steps == sorted(steps)
    assert steps[-1] == (14, 14)
    assert {total for _, total in steps} == {14}


def test_masks_that_are_empty_exactly_for_normal_are_called_out():
    cases = [case(f"n{i}", tissue(i), pathology="normal", mask=drawn()) for i in range(8)]
    cases += [case(f"b{i}", tissue(20 + i), pathology="benign", mask=drawn((50, 50, 20 + i))) for i in range(8)]
    empty, area, area_drawn, _ = audit(MemoryDataset(cases)).mask_leaks
    assert (empty.property_name, empty.accuracy, empty.balanced_accuracy, empty.baseline) == (
        "mask empty",
        1.0,
        1.0,
        0.5,
    )
    assert empty.leaks
    assert "8 of 8" in empty.explanation
    assert area.accuracy == 1.0
    assert area_drawn.cases == 8  # one label only is left: nothing to tell
    assert not area_drawn.leaks


def test_the_size_of_a_mask_can_tell_and_the_number_of_its_parts_too():
    cases = [case(f"b{i}", tissue(i), pathology="benign", mask=drawn((40, 40, 10 + i))) for i in range(10)]
    cases += [
        case(f"m{i}", tissue(20 + i), pathology="malignant", mask=drawn((40, 40, 60 + i), (150, 200, 40)))
        for i in range(10)
    ]
    leaks = {leak.property_name: leak for leak in audit(MemoryDataset(cases)).mask_leaks}
    assert not leaks["mask empty"].leaks
    assert leaks["mask area"].balanced_accuracy > 0.8
    assert leaks["mask regions, where drawn"].balanced_accuracy == 1.0


def test_masks_that_tell_nothing_are_not_called_leaks():
    rng = np.random.default_rng(0)
    cases = [
        case(f"{label}{i}", tissue(i + 20 * (label == "benign")), pathology=label, mask=drawn((30, 30, int(side))))
        for label in ("benign", "malignant")
        for i, side in enumerate(rng.permutation(np.arange(20, 60, 2)))
    ]
    assert not any(leak.leaks for leak in audit(MemoryDataset(cases)).mask_leaks)


def test_without_masks_nothing_is_said_of_them(result):
    assert result.mask_leaks == ()


def marked_at(seed, corner):
    pixels = cv2.GaussianBlur(tissue(seed), (0, 0), 4)
    return cv2.putText(pixels, "RT 3 CM", corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)


def test_burned_in_marks_are_counted_and_those_over_tissue_apart():
    over, edge, plain = marked_at(1, (100, 120)), marked_at(2, (100, 14)), cv2.GaussianBlur(tissue(3), (0, 0), 4)
    result = audit(MemoryDataset([case("over", over), case("edge", edge), case("plain", plain)]))
    assert set(result.marked) == {"over", "edge"}
    assert set(result.marked_inside) == {"over"}
    assert 0.001 < result.marked["over"] < 0.2
    assert [leak.property_name for leak in result.mark_leaks] == [
        "any burned-in annotation",
        "marks away from the edges",
    ]
    assert "2 of 3" in result.mark_leaks[0].explanation


def test_marks_on_lesions_only_are_a_leak_even_where_most_lesions_have_none():
    """Every bin's most frequent label is benign, so accuracy shows nothing; the balanced rule does."""
    cases = [case(f"n{i}", cv2.GaussianBlur(tissue(i), (0, 0), 4), pathology="normal") for i in range(4)]
    cases += [case(f"b{i}", marked_at(20 + i, (100, 120))) for i in range(8)]
    cases += [case(f"p{i}", cv2.GaussianBlur(tissue(40 + i), (0, 0), 4)) for i in range(10)]
    leak = audit(MemoryDataset(cases)).mark_leaks[1]
    assert leak.accuracy == pytest.approx(leak.baseline)
    assert leak.balanced_accuracy == pytest.approx((1 + 8 / 18) / 2)
    assert leak.leaks


def test_the_summary_is_json_and_counts_agree(result):
    summary = json.loads(json.dumps(result.to_dict()))
    assert summary["format"] == 1
    assert summary["counts"] == {
        "cases": 7,
        "scans": 6,
        "exact_pairs": 0,
        "near_pairs": 2,
        "related_pairs": 0,
        "groups": 2,
        "cross_label_groups": 1,
        "unstated_pairs": 1,
        "crossing": 4,
        "marked": len(result.marked),
        "marked_inside": len(result.marked_inside),
        "unreadable": 1,
        "dominant_patients": 0,
        "placeholders": 0,
    }
    assert summary["warnings"] == summary["dominant_patients"] == []
    assert [(pair["a"], pair["b"]) for pair in summary["unstated"]] == [("a", "b")]
    assert np.array(summary["pairs"][0]["transform"]).shape == (2, 3)


@pytest.mark.parametrize(("held", "dominant"), [(20, 1), (11, 1), (10, 0)])
def test_one_patient_over_half_of_a_dataset_is_named(held, dominant):
    picture = np.full((60, 80), 9, np.uint8)
    cases = [case(f"c{n}", picture + np.uint8(n), patient_id="A17" if n < held else f"p{n}") for n in range(20)]
    result = audit(MemoryDataset(cases))
    summary = result.to_dict()
    assert result.counts()["dominant_patients"] == len(result.warnings) == dominant
    found = [{"dataset": "memory", "patient_id": "A17", "cases": held, "total": 20}]
    assert summary["dominant_patients"] == found * dominant
    assert all(f"'A17' holds {held} of the 20 cases" in text for text in summary["warnings"])


def test_a_patient_that_only_the_files_know_is_counted(tmp_path):
    for number in range(20):
        path = tmp_path / "benign" / f"{number}.dcm"
        fake_datasets.save_dicom(path, [np.full((60, 80), number, np.uint8)], patient="MRN 1")
    dataset = open_dataset("folder", tmp_path)
    assert {record.patient_id for record in dataset.records()} == {None}
    (share,) = audit(dataset).dominant_patients
    assert (share.patient_id[:2], share.cases, share.total) == ("k-", 20, 20)


def test_a_placeholder_is_counted():
    named = case("a", tissue(1))
    named = replace(named, scans=(replace(named.scans[0], patient_placeholder="ANONYMOUS"),))
    result = audit(MemoryDataset([named, case("b", tissue(2))]))
    assert result.placeholders == {"ANONYMOUS": 1}
    assert result.counts()["placeholders"] == 1
    assert "1 scan carries the placeholder patient id 'ANONYMOUS'" in result.to_dict()["warnings"][0]


def test_the_groups_table_says_what_may_never_part(result, tmp_path):
    write_groups_csv(result, tmp_path / "groups.csv")
    rows = {row["case_id"]: row for row in csv.DictReader((tmp_path / "groups.csv").read_text("utf-8").splitlines())}
    assert list(rows) == ["a", "b", "c", "d", "e", "f", "g"]
    assert rows["a"]["group"] == rows["b"]["group"] != rows["c"]["group"]
    assert [rows[i]["cross_label"] for i in "abc"] == ["1", "1", "0"]
    assert [rows[i]["evidence"] for i in "aceg"] == ["near", "near", "stated", "single"]
    assert [rows[i]["group_size"] for i in "aceg"] == ["2", "2", "2", "1"]
    assert (rows["c"]["same_scan_group"], rows["e"]["same_scan_group"]) == (rows["d"]["same_scan_group"], "")
    assert float(rows["a"]["max_ncc"]) > 0.9


def test_the_same_dataset_gives_the_same_audit(dataset, result):
    again = audit(
        dataset, folds=[Fold(train=("a", "c", "e"), test=("b", "d", "f")), Fold(train=("b", "a"), test=("c", "d"))]
    )
    assert again.to_dict() == result.to_dict()
