"""Synthetic archives, the measures of `python -m benchmarks.gallery`, its page, and what scale costs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gallery import cost, engines, report
from benchmarks.gallery import run as bench_run
from benchmarks.gallery.metrics import score_results, true_neighbours
from benchmarks.gallery.peers import measure_peer, write_job
from benchmarks.gallery.run import bench_gallery
from benchmarks.gallery.vectors import BLOCK, FILTERS, intrinsic_dimension, make_vectors, passes
from sonoseek.core import InvalidValueError, ResultsError

ROOT = Path(__file__).parents[2]


def test_archives_are_the_same_for_the_same_seed_and_float16_keeps_them() -> None:
    made = make_vectors(BLOCK + 100, 32, 3)
    vectors, flags = made.matrix()
    again, flags_again = make_vectors(BLOCK + 100, 32, 3).matrix()
    assert vectors.dtype == np.float32
    assert vectors.shape == (BLOCK + 100, 32)
    assert (vectors == again).all()
    assert (flags == flags_again).all()
    assert (vectors == vectors.astype(np.float16)).all()
    assert not (vectors == make_vectors(BLOCK + 100, 32, 4).matrix()[0]).all()
    assert [len(block) for _, block, _ in made.blocks()] == [BLOCK, 100]


def test_embeddings_have_about_twenty_local_dimensions() -> None:
    assert 15 <= intrinsic_dimension(make_vectors(10_000, 256).matrix()[0]) <= 25
    flat = np.zeros((3_000, 50), np.float32)
    flat[:, :2] = np.random.default_rng(0).random((3_000, 2))
    assert intrinsic_dimension(flat) == pytest.approx(2, abs=0.2)


def test_filters_keep_their_shares_and_queries_are_no_rows() -> None:
    made = make_vectors(20_000, 64)
    vectors, flags = made.matrix()
    shares = {name: passes(flags, name).mean() for name in FILTERS}
    assert shares["half"] == pytest.approx(0.5, abs=0.02)
    assert shares["one"] == pytest.approx(0.01, abs=0.003)
    assert 0.3 < shares["half_correlated"] < 0.7
    assert 0.003 < shares["one_correlated"] < 0.04
    queries = made.queries(50)
    assert (queries @ vectors.T).max() < 0.9999
    # a correlated filter lets neighbours pass together, the others do not
    truth = true_neighbours(vectors, queries)
    together = passes(flags, "half_correlated")[truth].mean(axis=1)
    apart = passes(flags, "half")[truth].mean(axis=1)
    assert together.std() > 2 * apart.std()


@pytest.mark.parametrize(("rows", "dims"), [(0, 8), (5, 1)])
def test_archives_of_nothing_are_refused(rows: int, dims: int) -> None:
    with pytest.raises(InvalidValueError):
        make_vectors(rows, dims)


def test_recall_counts_what_a_wrong_index_misses() -> None:
    vectors, flags = make_vectors(3_000, 32).matrix()
    queries = make_vectors(3_000, 32).queries(20)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    brute = np.argsort(-(queries.astype(np.float64) @ unit.T.astype(np.float64)), axis=1)[:, :10]
    truth = true_neighbours(vectors, queries)
    assert (truth == brute).mean() > 0.99
    assert score_results(truth.tolist(), truth) == {"recall": 1.0, "violations": 0, "short": 0}
    odd = [[row for row in measured if row % 2] for measured in truth.tolist()]  # an index that lost every even row
    score = score_results(odd, truth)
    assert 0.2 < score["recall"] < 0.8
    assert score["short"] >= 19
    allowed = passes(flags, "half")
    score = score_results(truth.tolist(), true_neighbours(vectors, queries, allowed=allowed), allowed=allowed)
    assert score["violations"] == int((~allowed[truth]).sum()) > 0
    assert score["recall"] < 1


def test_truth_is_short_where_few_rows_may_answer() -> None:
    vectors, _ = make_vectors(50, 16).matrix()
    allowed = np.zeros(50, np.bool_)
    allowed[[3, 7]] = True
    truth = true_neighbours(vectors, vectors[:2], allowed=allowed)
    assert set(truth[0].tolist()) == {3, 7, -1}
    assert score_results([[3, 7], [7]], truth, allowed=allowed) == {"recall": 0.75, "violations": 0, "short": 1}


@pytest.mark.slow
def test_a_small_archive_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    steps: list[tuple[str, int, int]] = []
    bench_gallery([2_000], tmp_path, queries=10, peers=False, on_progress=lambda *what: steps.append(what))
    data = json.loads((tmp_path / "gallery.json").read_text())
    run = data["runs"]["2000"]
    assert steps[-1] == ("gallery of 2,000", 2_000, 2_000)
    numbers = run["ours"].get("exact") or run["ours"]["auto"]
    assert numbers["recall"]["plain"] == {"recall": 1.0, "violations": 0, "short": 0}
    assert all(score["violations"] == score["short"] == 0 for score in numbers["recall"].values())
    assert numbers["fresh"]["open_to_first_ms"] > 0
    assert run["ours"]["disk"]["truth_mib"] > 1
    page = (tmp_path / "gallery.md").read_text()
    assert page == report.page(data)
    assert "| 2,000 |" in page
    assert "sonoseek" in (tmp_path / "gallery.svg").read_text()
    # what is finished is not measured again, and other sizes join it
    monkeypatch.setattr(bench_run, "measure_gallery", lambda *_, **__: pytest.fail("measured again"))
    bench_gallery([2_000], tmp_path, queries=10, peers=False)
    monkeypatch.setattr(bench_run, "measure_gallery", lambda *_, **__: run["ours"])
    joined = bench_gallery([500], tmp_path, queries=10, peers=False)
    assert list(joined["runs"]) == ["500", "2000"]


def test_a_peer_that_is_not_installed_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.FaissFlat, "package", "no_such_package")
    assert measure_peer("faiss Flat", tmp_path) == {"status": "not installed"}
    data = {"version": 1, "runs": {"10": {"peers": {"faiss Flat": {"status": "not installed"}}}}}
    assert "not installed" in report.page(data)


def test_a_peer_is_measured_in_processes_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    write_job(make_vectors(1_000, 32), tmp_path, queries=5)
    measured = measure_peer("faiss Flat", tmp_path)
    assert measured["recall"] == measured["one_recall"] == 1.0
    assert measured["build_s"] >= 0
    assert measured["disk_mib"] > 0.1
    assert not (tmp_path / "peer").exists()


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gallery.json").write_text("{")
    with pytest.raises(ResultsError, match="damaged"):
        report.read_results(tmp_path)
    (tmp_path / "gallery.json").write_text('{"version": 99, "runs": {}}')
    with pytest.raises(ResultsError, match="version 99"):
        report.read_results(tmp_path)


def test_the_committed_page_is_drawn_from_the_committed_numbers() -> None:
    folder = ROOT / "docs" / "results"
    if not (folder / "gallery.json").exists():
        pytest.skip("no results are committed")
    assert (folder / "gallery.md").read_text(encoding="utf-8") == report.page(report.read_results(folder))


def test_the_page_on_scale_holds_the_tables_of_the_model() -> None:
    page = (ROOT / "docs" / "concepts" / "scale.md").read_text(encoding="utf-8")
    assert cost.storage_table() in page
    assert cost.ingest_table() in page


def test_the_model_changes_index_at_its_limit_and_refuses_nonsense() -> None:
    assert cost.estimate("sqlite", 200_000).index == "exact float32"
    assert cost.estimate("sqlite", 200_001).index == "IVF 8 bit"
    assert cost.estimate("milvus", 10**6).ram_bytes > 10**6 * (4 * 256 + 140)
    with pytest.raises(InvalidValueError, match="sqlite"):
        cost.estimate("redis", 10)
    with pytest.raises(InvalidValueError):
        cost.estimate("sqlite", 0)


def test_the_command_keeps_what_it_measured(tmp_path: Path) -> None:
    options = ("--rows", "300", "--dims", "16", "--queries", "3", "--no-peers", "--out", str(tmp_path))
    command = [sys.executable, "-m", "benchmarks.gallery", *options]
    first = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert "sonoseek" in first.stdout
    measured = (tmp_path / "gallery.json").read_text()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    assert (tmp_path / "gallery.json").read_text() == measured
    assert {path.name for path in tmp_path.iterdir()} == {"gallery.json", "gallery.md", "gallery.svg"}
