"""Jobs and rows on disk: nothing is written twice, and nothing that a name could reach is let in."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sonoseek.batch import BatchRunner, Job, JobStore, Row, safe_name
from sonoseek.batch import runner as runner_module
from sonoseek.batch.files import without_folder
from sonoseek.batch.indexing import open_source
from sonoseek.batch.query import reference_of, score_rows, summarise, without_masks
from sonoseek.batch.retention import delete_expired_files
from sonoseek.core import DatasetError, InvalidValueError, NotFoundError, SonoseekError


@pytest.fixture
def store(tmp_path: Path) -> Any:
    found = JobStore(tmp_path / "state")
    yield found
    found.close()


class TestNames:
    @pytest.mark.parametrize(
        "name", ["a.png", "benign/a b (1).png", "a/b/c/ü.dcm", "windows\\style\\a.png", "..a/b..c"]
    )
    def test_ordinary_ones_are_let_in(self, name: str) -> None:
        assert safe_name(name) == name.replace("\\", "/")

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "/etc/passwd",
            "../a",
            "a/../../b",
            "a/..",
            "C:\\x",
            "a\0b",
            "a\nb",
            "x" * 500,
            "/".join("a" * 20),
            "..\\a",
            ".",
        ],
    )
    def test_those_that_lead_elsewhere_are_not(self, name: str, store: JobStore) -> None:
        with pytest.raises(InvalidValueError, match="no name of a file"):
            safe_name(name)
        job = store.create("query", title="a")
        with pytest.raises(InvalidValueError):
            store.make_path(job.job_id, name)

    def test_a_file_and_a_folder_of_one_name_are_refused(self, store: JobStore) -> None:
        job = store.create("query", title="a")
        store.make_path(job.job_id, "a/b.png").write_bytes(b"")
        with pytest.raises(InvalidValueError, match="like a folder"):
            store.make_path(job.job_id, "a")
        with pytest.raises(InvalidValueError, match="like a file"):
            store.make_path(job.job_id, "a/b.png/c.png")

    def test_masks_beside_scans_are_left_out(self) -> None:
        names = [
            "b/a.png",
            "b/a_mask.png",
            "b/a_mask_1.png",
            "b/c_mask.png",
            "m/a_mask.png",
            "b/a.txt",
            "b/a_masked.png",
        ]
        assert without_masks(names) == ["b/a.png", "b/c_mask.png", "m/a_mask.png", "b/a.txt", "b/a_masked.png"]

    @pytest.mark.parametrize(
        ("name", "truth"),
        [("benign/a.png", "benign"), ("x/Malignant/y/a.png", "malignant"), ("benign.png", None), ("a/b.png", None)],
    )
    def test_folders_state_the_reference_label(self, name: str, truth: str | None) -> None:
        assert reference_of(name) == truth


class TestStore:
    def test_a_row_is_written_once_and_counted_once(self, store: JobStore) -> None:
        job = store.create("query", title="monday", total=3)
        assert store.add_row(job.job_id, "a.png", outcome={"label": "benign"})
        assert store.add_row(job.job_id, "b.png", outcome={}, refused="no scan")
        assert not store.add_row(job.job_id, "a.png", outcome={"label": "normal"})
        told = store.get(job.job_id)
        assert (told.done, told.refused) == (2, 1)
        assert [(row.number, row.name) for row in store.rows(job.job_id)] == [(1, "a.png"), (2, "b.png")]
        assert store.rows(job.job_id)[0].outcome == {"label": "benign"}
        assert [row.name for row in store.rows(job.job_id, after=1)] == ["b.png"]

    def test_a_job_that_was_deleted_takes_no_rows(self, store: JobStore) -> None:
        job = store.create("query", title="a")
        store.delete(job.job_id)
        assert not store.add_row(job.job_id, "a.png", outcome={})
        assert not store.change(job.job_id, state="done")
        assert store.list() == ()

    def test_it_is_there_when_it_is_opened_again(self, tmp_path: Path) -> None:
        first = JobStore(tmp_path)
        job = first.create("evaluate", title="ünï", options={"k": 3, "where": None})
        first.add_row(job.job_id, "a", outcome={})
        first.close()
        again = JobStore(tmp_path)
        assert (again.get(job.job_id).title, again.get(job.job_id).options) == ("ünï", {"k": 3, "where": None})
        assert len(again.rows(job.job_id)) == 1
        again.close()

    def test_a_state_that_is_barred_is_not_changed(self, store: JobStore) -> None:
        job = store.create("query", title="a")
        assert store.change(job.job_id, state="stopped")
        assert not store.change(job.job_id, state="running", unless=("stopped", "done"))
        assert store.get(job.job_id).state == "stopped"

    def test_deleting_takes_rows_and_files(self, store: JobStore) -> None:
        job = store.create("query", title="a")
        store.make_path(job.job_id, "x/a.png").write_bytes(b"1")
        store.add_row(job.job_id, "a", outcome={})
        store.delete(job.job_id)
        assert not store.files(job.job_id).exists()
        assert store.rows(job.job_id) == ()
        with pytest.raises(NotFoundError, match="there is no job"):
            store.get(job.job_id)

    @pytest.mark.parametrize("values", [{"kind": "x"}, {"title": " "}, {"title": "a\nb"}, {"total": -1}])
    def test_what_makes_no_job_is_refused(self, store: JobStore, values: dict[str, Any]) -> None:
        with pytest.raises(InvalidValueError):
            store.create(**{"kind": "query", "title": "a", **values})

    def test_a_file_that_is_no_list_of_jobs_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "jobs.sqlite").write_bytes(b"no database at all" * 100)
        with pytest.raises(SonoseekError, match="Move it away"):
            JobStore(tmp_path)


class TestOrder:
    @pytest.fixture
    def job(self, store: JobStore) -> str:
        found = store.create("query", title="monday").job_id
        for name, malignant in (("a", 0.2), ("b", 0.9), ("no", None), ("c", 0.2), ("d", 0.95), ("also no", None)):
            outcome = {} if malignant is None else {"probabilities": {"malignant": malignant}}
            store.add_row(found, name, outcome=outcome, refused=None if outcome else "no scan")
        return found

    def test_the_likeliest_malignant_comes_first_and_refused_files_last(self, store: JobStore, job: str) -> None:
        names = [row.name for row in store.rows_by_malignancy(job)]
        assert names == ["d", "b", "a", "c", "no", "also no"]
        pages = [row.name for skip in (0, 2, 4, 6) for row in store.rows_by_malignancy(job, skip=skip, limit=2)]
        assert pages == names
        assert [row.name for row in store.rows_by_malignancy(job, refused_only=True)] == ["no", "also no"]

    def test_scans_without_a_prediction_come_after_those_with_one(self, store: JobStore, job: str) -> None:
        noise = {"probabilities": {"malignant": 0.97}, "out_of_distribution": True}
        store.add_row(job, "noise", outcome=noise, refused=None)
        assert [row.name for row in store.rows_by_malignancy(job)] == ["d", "b", "a", "c", "noise", "no", "also no"]

    def test_a_row_is_had_by_its_number(self, store: JobStore, job: str) -> None:
        assert store.row(job, 2).name == "b"
        with pytest.raises(NotFoundError, match="has no row 7"):
            store.row(job, 7)
        with pytest.raises(NotFoundError, match="there is no job"):
            store.row("0" * 16, 1)

    def test_a_row_leads_to_its_file_and_out_of_no_folder(self, store: JobStore, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"1")
        sent = store.create("query", title="sent")
        store.make_path(sent.job_id, "x/a.png").write_bytes(b"1")
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "link").symlink_to(tmp_path / "secret")
        (tmp_path / "here" / "a.png").write_bytes(b"1")
        own = store.create("query", title="own", folder=str(tmp_path / "here"))
        assert store.source(sent, "x/a.png") == store.files(sent.job_id) / "x/a.png"
        assert store.source(sent, "b.png") is None
        assert store.source(own, "a.png") == tmp_path / "here" / "a.png"
        assert store.source(own, "link") is None
        assert store.source(own, "../secret") is None


class TestKeeping:
    """Which files of ended jobs stay."""

    @staticmethod
    def ended(
        store: JobStore, title: str, *, hours: float, kind: str = "query", rows: int = 1, state: str = "done"
    ) -> str:
        job = store.create(kind, title=title).job_id
        store.make_path(job, "a.png").write_bytes(b"1" * 1000)
        for number in range(rows):
            store.add_row(job, str(number), outcome={})
        store.change(job, state=state, finished=datetime.now(UTC) - timedelta(hours=hours))
        return job

    def test_time_room_and_kind_decide(self, store: JobStore) -> None:
        late = self.ended(store, "late", hours=3)
        first = self.ended(store, "first", hours=1.9)
        stopped = self.ended(store, "stopped", hours=1.8, state="stopped")
        index = self.ended(store, "index", hours=0, kind="index")
        nothing = self.ended(store, "nothing", hours=0, rows=0)
        going = store.create("query", title="going").job_id
        store.make_path(going, "a.png").write_bytes(b"1" * 5000)

        def kept() -> set[str]:
            everything = (late, first, stopped, index, nothing, going)
            return {job for job in everything if store.files(job).is_dir()}

        delete_expired_files(store, retention=timedelta(hours=2), max_bytes=10_000)
        assert kept() == {first, stopped, going}
        delete_expired_files(store, retention=timedelta(hours=2), max_bytes=1500)
        assert kept() == {stopped, going}  # it ended last
        delete_expired_files(store, retention=timedelta(0), max_bytes=10_000)
        assert kept() == {going}
        assert len(store.rows(late)) == 1

    def test_a_runner_holds_to_it_when_it_starts(self, store: JobStore) -> None:
        old, new = self.ended(store, "old", hours=30), self.ended(store, "new", hours=1)
        runner = BatchRunner(store, None, retention=timedelta(hours=24), retention_bytes=10_000)  # type: ignore[arg-type]
        runner.start()
        runner.close()
        assert (store.openable(store.get(old)), store.openable(store.get(new))) == (False, True)


def row(number: int, truth: str | None, label: str | None, malignant: float) -> Row:
    rest = (1 - malignant) / 2
    chances = {"normal": rest, "benign": rest + 1e-6, "malignant": malignant - 1e-6}
    outcome = {"label": label, "probabilities": chances, **({"reference": truth} if truth else {})}
    return Row(number=number, name=str(number), outcome=outcome)


def test_the_figures_are_those_worked_out_by_hand() -> None:
    rows = [
        row(1, "malignant", "malignant", 0.9),
        row(2, "malignant", None, 0.3),
        row(3, "benign", "malignant", 0.5),
        row(4, "benign", "benign", 0.1),
        row(5, None, "benign", 0.1),
    ]
    told = summarise([*rows, Row(number=6, name="6", refused="no")], evaluate=True)
    assert (told["answered"], told["refused"], told["scored"]) == (5, 1, 4)
    assert told["predictions"] == {"benign": 2, "malignant": 2, "not sure": 1}
    assert told["confusion"] == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    noise = Row(number=7, name="7", outcome={"label": None, "probabilities": {}, "out_of_distribution": True})
    missed = Row(number=8, name="8", outcome={"label": "benign", "probabilities": {}, "not_ruled_out": True})
    counted = summarise([*rows, noise, missed], evaluate=False)
    assert counted["predictions"] == {"benign": 3, "malignant": 2, "not sure": 1, "no prediction": 1}
    assert counted["not_ruled_out"] == 1
    value, low, high = told["accuracy"]
    assert value == pytest.approx(2 / 4)  # 1 and 4; 2 is likeliest benign, 3 malignant
    assert low <= value <= high
    assert told["auroc_malignant"][0] == pytest.approx(3 / 4)
    assert score_rows(rows[4:]) == {"scored": 0}
    few = score_rows([row for row in (rows[0], rows[3]) for _ in range(3)])  # all right, none is certain
    assert few["accuracy"] == pytest.approx([1.0, 0.025 ** (1 / 6), 1.0])
    assert score_rows(rows[2:4])["auroc_malignant"] is None


class TestOneAfterTheOther:
    def test_the_one_that_was_begun_first_is_next(self, store: JobStore) -> None:
        assert store.next_waiting() is None
        first, second = (store.create("query", title=title, folder="/x") for title in ("first", "second"))
        store.create("query", title="no files yet")
        assert [store.next_waiting(), store.get(second.job_id).state] == [first, "waiting"]
        store.change(first.job_id, state="running")
        assert store.next_waiting() == second

    def test_two_jobs_do_not_write_one_dataset(self, store: JobStore) -> None:
        """Neither is in the archive yet; the second would push the first one's cases out."""
        first = store.create("index", title="friday")
        with pytest.raises(InvalidValueError, match="'friday' into the archive has not ended"):
            store.create("index", title=" friday ")
        store.create("index", title="friday", options={"extend": True})
        store.create("query", title="friday")
        store.create("index", title="saturday")
        for job in store.list():
            store.change(job.job_id, state="done")
        assert store.create("index", title="friday").job_id != first.job_id  # the archive itself has the say then


class Full:
    """SQLite's own refusal: the file may have no page more."""

    def __init__(self, store: JobStore) -> None:
        self._connection = store._connection

    def __enter__(self) -> None:
        self._connection.execute("PRAGMA max_page_count = 1")

    def __exit__(self, *_: object) -> None:
        self._connection.execute("PRAGMA max_page_count = 1000000")


class TestNoRoom:
    def test_a_write_that_fails_leaves_the_list_as_it_was(self, store: JobStore) -> None:
        job = store.create("query", title="a")
        with Full(store), pytest.raises(sqlite3.OperationalError, match="full"):
            store.add_row(job.job_id, "x" * 20_000, outcome={})
        assert (store.get(job.job_id), store.rows(job.job_id)) == (job, ())
        assert store.add_row(job.job_id, "x" * 20_000, outcome={})

    def test_the_thread_outlives_it_and_the_job_goes_on(
        self, store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "scans").mkdir()
        tried: list[str] = []

        def ask(store: JobStore, job: Job, *_: Any, **__: Any) -> dict[str, Any]:
            tried.append(job.job_id)
            store.add_row(job.job_id, "x" * 20_000, outcome={})
            return {"files": 1}

        monkeypatch.setattr(runner_module, "query_files", ask)
        monkeypatch.setattr(runner_module, "PAUSE_S", 0.05)
        runner = BatchRunner(store, SimpleNamespace(gallery=None))  # type: ignore[arg-type]  # it is asked nothing
        job = store.create("query", title="a", folder=str(tmp_path / "scans"))
        with Full(store):
            runner.start()
            wait_until(lambda: len(tried) > 2 and runner.failing)
            assert (runner.alive, runner.failing) == (True, True)
            assert not store.get(job.job_id).ended
        wait_until(lambda: store.get(job.job_id).state == "done")
        assert (runner.alive, runner.failing) == (True, False)
        runner.close()
        assert not runner.alive


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


class TestIndexing:
    def test_a_table_must_not_reach_out_of_its_folder(self, tmp_path: Path) -> None:
        outside = tmp_path / "secret.png"
        outside.write_bytes(b"")
        folder = tmp_path / "job"
        folder.mkdir()
        for named in (str(outside), "../secret.png"):
            (folder / "manifest.csv").write_text(f"file,pathology\n{named},benign\n")
            with pytest.raises(DatasetError, match="lies outside its folder"):
                open_source(folder, name="a")
        (folder / "x.png").symlink_to(outside)
        (folder / "manifest.csv").write_text("file,pathology\nx.png,benign\n")
        with pytest.raises(DatasetError, match="lies outside its folder"):
            open_source(folder, name="a")

    def test_errors_do_not_say_where_a_folder_lies(self) -> None:
        folder = Path("/state/files/abc")
        told = without_folder("/state/files/abc/benign/a.png: cut; looked in /state/files/abc.", folder)
        assert told == "benign/a.png: cut; looked in the folder."
        assert without_folder("/a/b.png and /c/d.png", Path("/a"), Path("/c")) == "b.png and d.png"
        assert without_folder("reading/b.png", Path("g")) == "reading/b.png"

    def test_cases_go_by_the_name_that_was_given(self, tmp_path: Path) -> None:
        (tmp_path / "benign").mkdir()
        (tmp_path / "benign" / "a.png").write_bytes(b"")
        assert [record.dataset for record in open_source(tmp_path, name="monday").records()] == ["monday"]
        with pytest.raises(InvalidValueError, match="holds none"):
            open_source(tmp_path, name="a/b")


def test_files_that_nobody_sent_to_the_end_are_let_go(store: JobStore) -> None:
    old, new = (store.create("query", title=title) for title in ("old", "new"))
    for job in (old, new):
        store.make_path(job.job_id, "a.png").write_bytes(b"1")
    store.change(new.job_id, created=datetime.now(UTC) - timedelta(days=2))  # long ago, but its files still come
    two_days_ago = (datetime.now(UTC) - timedelta(days=2)).timestamp()
    os.utime(store.files(old.job_id), (two_days_ago, two_days_ago))
    runner = BatchRunner(store, None)  # type: ignore[arg-type]  # it is asked nothing
    runner.start()
    runner.close()
    assert store.get(old.job_id).state == "stopped"
    assert not store.files(old.job_id).exists()
    assert store.get(new.job_id).state == "receiving"
    assert np.array_equal([path.name for path in store.files(new.job_id).iterdir()], ["a.png"])
