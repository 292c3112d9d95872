"""Scans that a bundle has learnt from are dropped from tests on other archives, whatever they are called."""

import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_archive import TinyProtocol

from sonoseek.core import ResultsError, Scan, SplitError
from sonoseek.datasets import Dataset, open_dataset
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import Bundle, load_bundle
from sonoseek.encoder.seen import as_manifest_part, hash_bytes, training_scans
from sonoseek.evaluate import evaluate, open_context, rescore
from sonoseek.evaluate.context import BenchmarkContext
from sonoseek.evaluate.explaining import explain_rounds
from sonoseek.evaluate.page import write_page
from sonoseek.evaluate.protocols.external import External
from sonoseek.evaluate.seen import check_sides, in_words, without_seen
from sonoseek.evaluate.systems.bundle import BundleSystem, check_unseen

COUNT = 12
SEEN = 4


def phantoms() -> list[tuple[str, Scan]]:
    dataset = PhantomDataset(count=COUNT, seed=31)
    return [(r.pathology, dataset.load(r.case_id, masks=False).scans[0]) for r in dataset.records()]


def copy_of(scan: Scan) -> Scan:
    """Half the size, mirrored, as JPEG."""
    small = cv2.resize(scan.pixels[:, ::-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return Scan(pixels=cv2.imdecode(cv2.imencode(".jpg", small)[1], cv2.IMREAD_GRAYSCALE))


def write_archive(folder: Path, scans: Sequence[tuple[str, Scan]], *, per_patient: int = 0) -> Path:
    """A manifest of scans under names of no meaning; `per_patient` of them in a row are of one patient; 0: unknown."""
    folder.mkdir(parents=True)
    rows = [("file", "pathology", "case_id", "patient")]
    for number, (pathology, scan) in enumerate(scans):
        cv2.imwrite(str(folder / f"{number}.png"), scan.pixels)
        patient = f"p{number // per_patient}" if per_patient else ""
        rows.append((f"{number}.png", pathology, f"x{number}", patient))
    with (folder / "archive.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "archive.csv"


def knows(scans: Sequence[Scan], **cases: Sequence[str]) -> Bundle:
    """The bundle that ships, as if it had learnt from these scans."""
    learnt = training_scans(("hospital", scan.scan_id, hash_bytes(scan)) for scan in scans)
    cases = {"hospital": ["h"], **cases}
    return replace(load_bundle(), training_scans=learnt, training=MappingProxyType({"cases": cases}))


def scene_of(table: Path, tmp_path: Path) -> BenchmarkContext:
    protocol = External(train_on=(), test_on="manifest", paths={"manifest": table})
    return open_context(protocol, data_root=None, cache=tmp_path / "near-duplicates")


@pytest.fixture(scope="module")
def scans() -> list[tuple[str, Scan]]:
    return phantoms()


class TestDropped:
    def test_copies_under_other_names_are_dropped_and_counted(self, scans, tmp_path: Path) -> None:
        mixed = [(p, copy_of(s) if i < SEEN - 1 else s) for i, (p, s) in enumerate(scans)]
        context = scene_of(write_archive(tmp_path / "archive", mixed), tmp_path)
        left = without_seen(context, lambda _: knows([s for _, s in scans[:SEEN]]))
        assert left.rounds[0].test == {"manifest": tuple(f"x{i}" for i in range(SEEN, COUNT))}
        assert (left.seen.scans, left.seen.dropped, left.seen.exact) == (COUNT, SEEN, 1)
        assert f"{SEEN} of {COUNT} scans were in the training data of {load_bundle().bundle_id}; dropped" in (
            in_words(vars(left.seen))
        )
        assert context.rounds[0].test["manifest"] == tuple(f"x{i}" for i in range(COUNT))

    def test_where_none_was_learnt_from_it_says_so(self, scans, tmp_path: Path) -> None:
        context = scene_of(write_archive(tmp_path / "archive", scans), tmp_path)
        left = without_seen(context, lambda _: knows([]))
        assert left.rounds == context.rounds
        assert in_words(vars(left.seen)).startswith(f"0 of {COUNT} scans")
        assert without_seen(left, lambda _: knows([])) is left

    @pytest.mark.parametrize(("learnt", "refused"), [(COUNT // 2, False), (COUNT // 2 + 1, True), (COUNT, True)])
    def test_where_more_than_half_were_no_figure_is_given(self, scans, tmp_path: Path, learnt, refused) -> None:
        context = scene_of(write_archive(tmp_path / "archive", scans), tmp_path)
        bundle = knows([s for _, s in scans[:learnt]])
        if refused:
            with pytest.raises(SplitError, match=f"{learnt} of {COUNT} scans were in the training data"):
                without_seen(context, lambda _: bundle)
        else:
            assert len(without_seen(context, lambda _: bundle).rounds[0].test["manifest"]) == COUNT - learnt

    def test_a_case_goes_with_all_its_scans(self, scans, tmp_path: Path) -> None:
        context = scene_of(write_archive(tmp_path / "archive", scans), tmp_path)

        class TwoViews:
            """Each case with the scan of the last one as its second view."""

            def records(self):
                return context.datasets["manifest"].records()

            def load(self, case_id: str, *, masks: bool = True):
                case = context.datasets["manifest"].load(case_id, masks=masks)
                return SimpleNamespace(scans=(*case.scans, copy_of(Scan(pixels=case.scans[0].pixels[8:]))))

        two = replace(context, datasets={"manifest": TwoViews()}, _known={}, _listed={})
        left = without_seen(two, lambda _: knows([scans[0][1]]))
        assert (left.seen.scans, left.seen.dropped) == (2 * COUNT, 2)
        assert "x0" not in left.rounds[0].test["manifest"]

    def test_a_patient_goes_with_a_scan_that_was_learnt_from(self, scans, tmp_path: Path) -> None:
        context = scene_of(write_archive(tmp_path / "archive", scans, per_patient=2), tmp_path)
        left = without_seen(context, lambda _: knows([scans[0][1], scans[5][1]]))
        assert left.rounds[0].test == {"manifest": ("x2", "x3", *(f"x{i}" for i in range(6, COUNT)))}
        assert (left.seen.dropped, left.seen.related, left.seen.exact) == (4, 2, 2)
        sentence = in_words(vars(left.seen))
        assert sentence.startswith(f"2 of {COUNT} scans were in the training data")
        assert sentence.endswith("and 2 more are of the same patient, group or case; dropped")
        with pytest.raises(SplitError, match=r"4 of 12 scans .*, and 4 more are of the same patient"):
            without_seen(context, lambda _: knows([scans[i][1] for i in (0, 2, 4, 6)]))

    def test_protocols_that_train_their_own_networks_are_left_as_they_are(self) -> None:
        context: Any = SimpleNamespace(protocol=TinyProtocol())
        assert without_seen(context, lambda _: knows([])) is context


class TestNames:
    def test_in_one_s_own_archive_pixels_decide(self, scans, tmp_path: Path) -> None:
        context = scene_of(write_archive(tmp_path / "archive", scans), tmp_path)
        same_names = knows([], manifest=[f"x{i}" for i in range(COUNT)])
        assert without_seen(context, lambda _: same_names).seen.dropped == 0
        check_unseen(same_names, context.rounds[0].test)
        with pytest.raises(SplitError, match="12 cases of the test side"):  # names are all there is
            check_unseen(replace(same_names, training_scans=None), context.rounds[0].test)

    def test_of_a_published_dataset_the_name_is_enough(self, tmp_path: Path) -> None:
        class Phantoms(External):
            def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
                return {"phantom": PhantomDataset(count=COUNT, seed=31)}

        protocol = Phantoms(train_on=(), test_on="phantom")
        context = open_context(protocol, data_root=None, cache=tmp_path / "near-duplicates")
        names = context.rounds[0].test["phantom"]
        left = without_seen(context, lambda _: knows([], phantom=list(names[:5])))
        assert (left.seen.dropped, left.seen.exact) == (5, 5)
        check_unseen(knows([], phantom=list(names[:5])), left.rounds[0].test)

    def test_a_bundle_that_cannot_tell_is_refused(self, scans, tmp_path: Path) -> None:
        context = scene_of(write_archive(tmp_path / "archive", scans), tmp_path)
        bundle = replace(knows([]), training_scans=None)
        with pytest.raises(SplitError, match="does not carry the hashes"):
            without_seen(context, lambda _: bundle)
        of_phantoms = replace(bundle, training=MappingProxyType({"cases": {"phantom": ["p"]}}))
        assert without_seen(context, lambda _: of_phantoms).seen.dropped == 0


class TestSidesOfTheirOwn:
    """In protocols that are not a test elsewhere nothing can be dropped: the bundle is refused."""

    def test_a_bundle_that_learnt_a_test_scan_under_another_name_is_refused(self, scans, tmp_path: Path) -> None:
        class Fixed(External):
            drops_seen = False

        table = write_archive(tmp_path / "archive", scans)
        protocol = Fixed(train_on=(), test_on="manifest", paths={"manifest": table})
        context = open_context(protocol, data_root=None, cache=tmp_path / "near-duplicates")
        check_sides(context, lambda _: knows([]))
        with pytest.raises(SplitError, match=r"1 of 12 test scans .* under other names \(1 as they are\)"):
            check_sides(context, lambda _: knows([scans[0][1]]))
        copies = [copy_of(scan) for _, scan in scans]
        with pytest.raises(SplitError, match=r"12 of 12 test scans .* \(0 as they are\)"):
            check_sides(context, lambda _: knows(copies))
        refused = BundleSystem(bundle_that_learnt(tmp_path / "bundle", copies))
        for score in (evaluate, explain_rounds):
            with pytest.raises(SplitError, match="under other names"):
                score(context, refused, runs=tmp_path / "runs", out=tmp_path / "out")
        assert not (tmp_path / "out").exists()
        protocol.guarded = False  # a protocol that flatters lets copies cross on purpose
        check_sides(context, lambda _: knows(copies))


def test_results_and_pages_say_what_was_dropped(scans, tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", scans)
    folder = bundle_that_learnt(tmp_path / "bundle", [s for _, s in scans[:SEEN]])
    bundle_id = load_bundle(folder).bundle_id
    evaluate(scene_of(table, tmp_path), BundleSystem(folder), runs=tmp_path / "runs", out=tmp_path / "out")
    scored = rescore(tmp_path / "out")
    metrics = scored["external-bundle-to-manifest"].systems[bundle_id].metrics
    assert metrics["counts"]["scans"] == COUNT - SEEN
    found = metrics["made"]["seen_in_training"]
    assert found == {"bundle": bundle_id, "scans": COUNT, "dropped": SEEN, "related": 0, "exact": SEEN}
    said = f"{SEEN} of {COUNT} scans were in the training data of {bundle_id}; dropped."
    assert said in write_page(tmp_path / "out", scored).read_text()
    third = BundleSystem(bundle_that_learnt(tmp_path / "third", [s for _, s in scans[:1]]))  # drops other scans
    with pytest.raises(ResultsError, match="what another bundle has learnt"):
        evaluate(scene_of(table, tmp_path), third, runs=tmp_path / "third-runs", out=tmp_path / "out")
    assert not list((tmp_path / "third-runs").rglob("*.csv.bz2"))  # nothing was scored
    refused = bundle_that_learnt(tmp_path / "other", [s for _, s in scans])
    with pytest.raises(SplitError, match="12 of 12 scans"):
        evaluate(scene_of(table, tmp_path), BundleSystem(refused), runs=tmp_path / "runs", out=tmp_path / "none")
    with pytest.raises(SplitError, match="12 of 12 scans"):
        explain_rounds(scene_of(table, tmp_path), BundleSystem(refused), runs=tmp_path / "runs", out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def bundle_that_learnt(folder: Path, scans: Sequence[Scan]) -> Path:
    """The bundle that ships, in a folder of its own, as if it had learnt from these scans."""
    source = load_bundle().path
    folder.mkdir(parents=True)
    manifest = json.loads((source / "bundle.json").read_text())
    learnt = training_scans(("hospital", scan.scan_id, hash_bytes(scan)) for scan in scans)
    manifest["training_scans"] = as_manifest_part(learnt)
    (folder / "bundle.json").write_text(json.dumps(manifest))
    (folder / "model.onnx").symlink_to(source / "model.onnx")
    return folder


def run_cli(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sonoseek.apps.cli", "evaluate", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.data
def test_a_manifest_of_re_saved_training_scans_is_refused(real_data: Path, tmp_path: Path) -> None:
    """188 scans of BUS-BRA, as JPEG, under other names."""
    dataset = open_dataset("busbra", real_data / "busbra")
    rows = ["file,pathology"]
    for number, record in enumerate(dataset.records()[::10]):
        pixels = dataset.load(record.case_id, masks=False).scans[0].pixels
        cv2.imwrite(str(tmp_path / f"{number:03}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])
        rows.append(f"{number:03}.jpg,{record.pathology}")
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    assert len(rows) - 1 == 188
    for protocol in ("external", "explanations"):
        test_on = f"manifest={tmp_path / 'mine.csv'}"
        done = run_cli(
            "--protocol", protocol, "--test-on", test_on, "--bundle", "default", "--out", "out", cwd=tmp_path
        )
        assert done.returncode == 2
        assert "188 of 188 scans were in the training data of sonoseek-outline" in done.stderr
        assert "accuracy" not in done.stdout
        assert not (tmp_path / "out").exists()


@pytest.mark.data
def test_the_bundle_that_ships_knows_its_scans_and_no_others(real_data: Path) -> None:
    learnt = load_bundle().training_scans
    assert learnt is not None
    assert dict(learnt.counts) == {"busbra": 1875, "busi": 780}
    found: dict[str, list[bool]] = {"as it is": [], "copy": []}
    for name, every in (("busi", 13), ("busbra", 31)):
        dataset = open_dataset(name, real_data / name)
        for record in dataset.records()[::every]:
            scan = dataset.load(record.case_id, masks=False).scans[0]
            as_it_is, copy = learnt.find(scan), learnt.find(copy_of(scan))
            found["as it is"].append(as_it_is is not None and as_it_is.exact)
            found["copy"].append(copy is not None)
    assert all(found["as it is"])
    assert np.mean(found["copy"]) >= 0.95
    files = sorted((real_data / "bus_uc" / "BUS_UC").glob("*/images/*"))
    if files:  # another hospital's
        others = [learnt.find(Scan(pixels=cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))) for file in files]
        assert sum(each is not None for each in others) <= 0.001 * len(others)
