"""A batch job says which scans were in the training data, and scores none of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest

from sonoseek.batch import JobStore
from sonoseek.batch.job import Row
from sonoseek.batch.query import query_files, score_rows, summarise
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import load_bundle, open_encoder
from sonoseek.encoder.seen import hash_bytes, training_scans
from sonoseek.engine import SearchEngine


def row(number: int, *, seen: bool, truth: str | None = "benign", label: str = "benign") -> Row:
    chances = {"normal": 0.1, "benign": 0.6, "malignant": 0.3}
    outcome: dict[str, Any] = {"label": label, "probabilities": chances, "seen_in_training": seen}
    return Row(number=number, name=str(number), outcome={**outcome, "reference": truth} if truth else outcome)


def test_figures_are_of_the_other_scans() -> None:
    rows = [row(1, seen=True, label="malignant"), row(2, seen=False), row(3, seen=False, truth="malignant")]
    told = summarise(rows, evaluate=True)
    assert (told["answered"], told["seen_in_training"], told["scored"]) == (3, 1, 2)
    assert told["confusion"] == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]
    assert told["accuracy"][0] == pytest.approx(1 / 2)
    assert told["accuracy"] == score_rows(rows[1:])["accuracy"]


@pytest.mark.parametrize(("seen", "scored"), [(2, 2), (3, 0), (4, 0)])
def test_where_more_than_half_were_learnt_from_there_is_no_figure(seen: int, scored: int) -> None:
    rows = [row(number, seen=number < seen) for number in range(4)]
    told = summarise([*rows, row(9, seen=True, truth=None)], evaluate=True)
    assert (told["seen_in_training"], told["scored"]) == (seen + 1, scored)
    assert ("accuracy" in told) is bool(scored)
    if not scored:
        assert f"{seen} of 4 scans with a reference label were in the training data" in told["no_figures"]


def test_rows_say_which_scans_were_learnt_from(tmp_path: Path) -> None:
    dataset = PhantomDataset(count=3, seed=4)
    scans = [dataset.load(record.case_id, masks=False).scans[0] for record in dataset.records()]
    learnt = training_scans([("hospital", scans[0].scan_id, hash_bytes(scans[0]))])
    (tmp_path / "files" / "benign").mkdir(parents=True)
    for number, scan in enumerate(scans):
        cv2.imwrite(str(tmp_path / "files" / "benign" / f"{number}.jpg"), scan.pixels)
    engine = SearchEngine(open_encoder(replace(load_bundle(), training_scans=learnt), threads=1))
    store = JobStore(tmp_path / "jobs")
    job = store.create("evaluate", title="a")
    told = query_files(store, job, engine, folder=tmp_path / "files", stopped=lambda: False)
    assert [each.outcome["seen_in_training"] for each in store.every_row(job.job_id)] == [True, False, False]
    assert (told["answered"], told["seen_in_training"], told["scored"]) == (3, 1, 2)
