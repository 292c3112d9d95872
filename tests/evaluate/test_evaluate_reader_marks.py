"""The protocol in which a reader marks the lesion: marks from masks, named as such, for networks that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoseek.core import InvalidValueError
from sonoseek.datasets import Dataset
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import load_bundle
from sonoseek.engine import open_engine
from sonoseek.evaluate import PROTOCOLS, SYSTEMS, evaluate, open_context, rescore
from sonoseek.evaluate.files import read_about
from sonoseek.evaluate.protocols import Round
from sonoseek.evaluate.protocols.busi import repeated_folds
from sonoseek.evaluate.reader_marks import LOOSENESS, check_reads_marks, draw_mark, with_marks
from sonoseek.evaluate.systems.base import LabelledScan
from sonoseek.evaluate.systems.bundle import BundleSystem


class MarkedPhantoms:
    """Some phantoms, two folds, with a reader's mark."""

    name = "marked-phantoms"
    title = "phantoms, marked"
    description = "Some phantoms, two folds, with a reader's mark."
    exclusions = "nothing"
    guarded = True
    drops_near_duplicates = False
    own_archive = True
    reader_marks = True

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        return {"phantom": PhantomDataset(count=40, seed=21)}

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        return repeated_folds(datasets["phantom"], seeds=(0,), folds=2)


class PlainPhantoms(MarkedPhantoms):
    """The same, without marks."""

    name = "plain-phantoms"
    reader_marks = False


def test_the_protocol_says_in_its_name_title_and_description_that_a_mark_is_given() -> None:
    protocol = PROTOCOLS.load("reader-marked")()
    assert protocol.name == "reader-marked"
    assert "marked by a reader" in protocol.title
    assert protocol.description.startswith("NOT AUTOMATIC: a reader's mark is given")
    plain = PROTOCOLS.load("leave-one-hospital-out")()
    assert protocol.rounds.__func__ is plain.rounds.__func__
    assert (protocol.guarded, protocol.own_archive, protocol.seeds) == (True, True, plain.seeds)


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(max_size=8),
    top=st.integers(0, 60),
    left=st.integers(0, 80),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_a_mark_is_the_masks_box_moved_and_scaled_a_little(
    name: str, top: int, left: int, height: int, width: int
) -> None:
    mask = np.zeros((100, 120), np.bool_)
    mask[top : top + height, left : left + width] = True
    mark = draw_mark(mask, name=name)
    assert mark == draw_mark(mask, name=name)
    for low, high, first, side, end in (
        (mark.top, mark.bottom, top, height, 100),
        (mark.left, mark.right, left, width, 120),
    ):
        assert 0 <= low < high <= end
        assert (1 - LOOSENESS) * side - 1e-9 <= high - low or low == 0 or high == end
        assert high - low <= (1 + LOOSENESS) * side + 1e-9
        most = (LOOSENESS + LOOSENESS / 2) * side + 1e-9  # of an edge: the centre's move and half the side's growth
        assert abs(low - first) <= most
        assert abs(high - min(first + side, end)) <= most


def test_marks_differ_from_scan_to_scan() -> None:
    mask = np.zeros((100, 120), np.bool_)
    mask[30:60, 40:80] = True
    marks = [draw_mark(mask, name=f"case {number}") for number in range(200)]
    centres = np.array([((m.top + m.bottom) / 2 - 45, (m.left + m.right) / 2 - 60) for m in marks]) / (30, 40)
    sides = np.array([(m.height, m.width) for m in marks]) / (30, 40)
    for found, middle in ((centres, 0), (sides, 1)):
        assert np.abs(found - middle).max() <= LOOSENESS + 1e-9
        np.testing.assert_allclose(found.mean(0), middle, atol=0.03)
        assert (found.std(0) > 0.07).all()  # uniform: 0.15 / √3
    assert abs(np.corrcoef(np.hstack([centres, sides]).T) - np.eye(4)).max() < 0.25


def test_a_scan_without_a_mask_has_no_mark() -> None:
    dataset = PhantomDataset(count=40, seed=21)
    samples = [
        LabelledScan(name=r.case_id, record=replace(r, dataset="phantom"), scan=dataset.load(r.case_id).scans[0])
        for r in dataset.records()
    ]
    marked = with_marks(samples, {"phantom": dataset})
    assert {sample.record.pathology == "normal" for sample in marked if sample.lesion is None} == {True}
    assert {sample.record.pathology == "normal" for sample in marked if sample.lesion is not None} == {False}
    assert [replace(sample, lesion=None).name for sample in marked] == [sample.name for sample in samples]


@pytest.mark.slow
def test_test_scans_are_read_with_marks_and_nothing_else_is(marking_bundle: Path, tmp_path: Path) -> None:
    system = BundleSystem(marking_bundle)
    found = {}
    for protocol in (MarkedPhantoms(), PlainPhantoms()):
        context = open_context(protocol, data_root=None, cache=tmp_path / "copies")
        folder = evaluate(context, system, runs=tmp_path / "runs", out=tmp_path / "out")
        found[protocol.name] = rescore(tmp_path / "out", only=protocol.name)[protocol.name].systems[system.name].results
        about = read_about(folder)["protocol"]
        assert (about["name"], about["title"]) == (protocol.name, protocol.title)
    marked, plain = found["marked-phantoms"], found["plain-phantoms"]
    assert marked.validation == plain.validation  # read without marks
    both = zip(marked.predictions, plain.predictions, strict=True)
    changed = {m.scan for m, p in both if m.probabilities != p.probabilities}
    lesions = {row.scan for row in marked.predictions if row.label != "normal"}
    assert changed == lesions
    dataset = PhantomDataset(count=40, seed=21)
    engine = open_engine(bundle=marking_bundle)
    for row in marked.predictions[:6]:
        case = dataset.load(row.scan)
        mask = case.lesion_masks[0]
        lesion = None if mask is None or not mask.any() else draw_mark(mask, name=f"phantom/{row.scan}/0")
        wanted = engine.read(case.scans[0], lesion=lesion).prediction.probabilities
        assert row.probabilities == pytest.approx([wanted[n] for n in ("normal", "benign", "malignant")], abs=1e-4)
    matches = [
        [row.own_archive.matches for row in results.predictions if row.own_archive] for results in (marked, plain)
    ]
    assert len(matches[0]) == len(marked.predictions)
    assert matches[0] != matches[1]


def test_only_systems_that_read_marks_are_scored(marking_bundle: Path, tmp_path: Path) -> None:
    context = open_context(MarkedPhantoms(), data_root=None, cache=tmp_path / "copies")
    for system in (BundleSystem(load_bundle("fast").path), SYSTEMS.load("nearest-pixels")()):
        with pytest.raises(InvalidValueError, match=rf"'{system.name}' reads no marks.*leave-one-hospital-out"):
            evaluate(context, system, runs=tmp_path / "runs", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    check_reads_marks(BundleSystem(marking_bundle), context.rounds)
    with pytest.raises(InvalidValueError, match=r"changes the pixels that the reader's marks"):
        evaluate(context, BundleSystem(marking_bundle), runs=tmp_path, out=tmp_path / "out", robustness=True)


def test_a_recipe_reads_marks_where_it_serves_a_close_up(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from sonoseek.training.recipe import parse_recipe
    from sonoseek.training.systems import RecipeSystem

    text = 'name = "x"\nbackbone = "tiny"\nnetwork = "lesion_pooling"\nCLOSE[[datasets]]\nname = "phantom"\n'
    rounds = MarkedPhantoms().rounds(MarkedPhantoms().open(None))
    for close_up, reads in (("close_up = true\n", True), ("", False)):
        recipe = parse_recipe(text.replace("CLOSE", close_up))
        system = RecipeSystem(recipe, data_root=None, weights_root=None, cache=tmp_path)
        assert system.reads_marks(rounds[0]) is reads
        if not reads:
            with pytest.raises(InvalidValueError, match="close_up = true"):
                check_reads_marks(system, rounds)
