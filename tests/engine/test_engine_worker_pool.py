"""Who gets which cases when Ray's workers are lost, do not start, or say nothing: with a stand-in that does so."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from sonoseek.core import DatasetError, TemporaryError
from sonoseek.indexing import ray as ray_builds
from sonoseek.indexing.build import Item, Outcome


class RayError(Exception):
    """As Ray's own: it is above all of its errors."""


@dataclass(eq=False)
class Actor:
    number: int
    ready: Any
    take: Any


@dataclass
class Cluster:
    """Does what a call asks when its result is fetched; `fate` may raise, or say that the result never comes."""

    cores: int = 2
    fate: Callable[[str, int, Any], bool] = lambda *_: True
    started: list[Any] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)
    took: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    exceptions: Any = field(default_factory=lambda: SimpleNamespace(RayError=RayError))

    def remote(self, **_: Any) -> Any:
        return lambda _: SimpleNamespace(remote=self._start)

    def _start(self, job: Any) -> Any:
        number = len(self.started)
        actor = Actor(
            number=number,
            ready=SimpleNamespace(remote=lambda: Call(self, "ready", number)),
            take=SimpleNamespace(remote=lambda items: Call(self, "take", number, tuple(items))),
        )
        self.started.append(actor)
        return actor

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cores)}

    def wait(self, refs: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        for ref in refs:
            if ref.comes():
                return [ref], [other for other in refs if other is not ref]
        return [], refs

    def get(self, ref: Any, timeout: float) -> Any:
        return ref.fetch()

    def kill(self, actor: Any) -> None:
        self.killed.append(actor.number)


@dataclass(eq=False)
class Call:
    cluster: Cluster
    method: str
    worker: int
    items: tuple[Item, ...] = ()
    error: Exception | None = None

    def comes(self) -> bool:
        try:
            return self.cluster.fate(self.method, self.worker, [record.case_id for record, _ in self.items])
        except Exception as error:
            self.error = error
            return True

    def fetch(self) -> Any:
        if self.worker in self.cluster.killed:
            raise RayError("the actor is dead")
        if self.error is not None:
            raise self.error
        if self.method == "ready":
            return True
        self.cluster.took.append((self.worker, tuple(record.case_id for record, _ in self.items)))
        return pickle.dumps([Outcome(source=f"d/{record.case_id}") for record, _ in self.items])


def cases(count: int) -> list[Item]:
    return [(SimpleNamespace(dataset="d", case_id=f"{number:03d}"), "f") for number in range(count)]  # type: ignore[misc]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Time that goes by a minute with each look at it."""
    told = iter(range(0, 10**9, 60))
    monkeypatch.setattr(ray_builds.time, "monotonic", lambda: next(told))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Outcome]]:
    def call(cluster: Cluster, count: int, *, workers: int = 0) -> list[Outcome]:
        monkeypatch.setitem(__import__("sys").modules, "ray", cluster)
        outcomes: Iterator[Outcome] = ray_builds._WorkerPool(cases(count), {}, workers=workers).outcomes()
        return list(outcomes)

    return call


def sources(found: list[Outcome]) -> list[str]:
    return sorted(outcome.source for outcome in found)


ALL_40 = [f"d/{number:03d}" for number in range(40)]


def test_every_case_is_taken_once_by_as_many_workers_as_there_are_cores(work) -> None:
    cluster = Cluster(cores=3)
    assert sources(work(cluster, 40)) == ALL_40
    assert len(cluster.started) == 3
    assert {len(items) for _, items in cluster.took} == {8}
    assert sorted(cluster.killed) == [0, 1, 2]


def test_no_more_workers_than_work_or_than_were_allowed(work) -> None:
    for count, workers, started in ((9, 0, 2), (40, 1, 1)):
        cluster = Cluster(cores=16)
        assert len(work(cluster, count, workers=workers)) == count
        assert len(cluster.started) == started


def test_a_lost_worker_s_tasks_are_done_by_another(work) -> None:
    def fate(method: str, worker: int, items: Any) -> bool:
        if worker == 1 and method == "take":
            raise RayError("the node died")
        return True

    cluster = Cluster(fate=fate)
    assert sources(work(cluster, 40)) == ALL_40
    assert all(worker != 1 for worker, _ in cluster.took)
    assert len(cluster.started) >= 3


def test_a_case_that_kills_its_workers_is_refused_and_no_other(work) -> None:
    def fate(method: str, worker: int, items: Any) -> bool:
        if "013" in items:
            raise RayError("the worker died")
        return True

    found = work(Cluster(fate=fate), 40)
    assert sources(found) == ALL_40
    (refused,) = (outcome for outcome in found if outcome.reason)
    assert refused.source == "d/013"
    assert "3 workers of Ray died over it" in refused.reason


def test_silence_is_not_waited_for_for_ever(work, clock) -> None:
    """As when Ray lost a result and will never say so: other workers do the cases again."""

    def fate(method: str, worker: int, items: Any) -> bool:
        return not (worker == 0 and "000" in items)

    cluster = Cluster(cores=1, fate=fate)
    assert sources(work(cluster, 40)) == ALL_40
    assert 0 in cluster.killed


def test_a_case_that_never_comes_to_an_end_is_refused_and_no_other(work, clock) -> None:
    for cores in (1, 2):
        found = work(Cluster(cores=cores, fate=lambda _, __, items: "013" not in items), 40)
        assert sources(found) == ALL_40
        (refused,) = (outcome for outcome in found if outcome.reason)
        assert refused.source == "d/013"
        assert "did not come to an end" in refused.reason


def test_a_machine_on_which_no_worker_starts_leaves_the_work_to_the_others(work) -> None:
    def fate(method: str, worker: int, items: Any) -> bool:
        if method == "ready" and worker:
            raise RayError("no module named sonoseek")
        return True

    cluster = Cluster(cores=3, fate=fate)
    assert len(work(cluster, 200)) == 200
    assert len(cluster.started) < 20


@pytest.mark.parametrize("what", ["cluster_resources", "wait"])
def test_a_cluster_that_is_lost_is_temporary_trouble(work, monkeypatch, what) -> None:
    cluster, asked = Cluster(), []
    does = getattr(cluster, what)

    def lost(*args: Any, **values: Any) -> Any:
        asked.append(what)
        if len(asked) > 3:
            raise RayError("the head has gone")
        return does(*args, **values)

    monkeypatch.setattr(cluster, what, lost, raising=False)
    with pytest.raises(TemporaryError, match="the head has gone"):
        work(cluster, 200)


def test_a_cluster_that_stays_silent_is_temporary_trouble(work, clock) -> None:
    cluster = Cluster(fate=lambda method, *_: method == "ready")
    with pytest.raises(TemporaryError, match="nothing was heard of its workers 3 times"):
        work(cluster, 40)
    assert sorted(cluster.killed) == list(range(len(cluster.started)))


def test_workers_that_never_start_are_temporary_trouble(work) -> None:
    def fate(method: str, worker: int, items: Any) -> bool:
        raise RayError("no such module")

    with pytest.raises(TemporaryError, match="its workers do not start: no such module"):
        work(Cluster(fate=fate), 8)


def test_what_is_wrong_with_every_case_ends_the_build(work, monkeypatch) -> None:
    monkeypatch.setattr(Call, "fetch", lambda call: call.method == "ready" or pickle.dumps([DatasetError("no mount")]))
    cluster = Cluster()
    with pytest.raises(DatasetError, match="no mount"):
        work(cluster, 8)
    assert cluster.killed == [0]
