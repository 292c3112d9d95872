"""Filling a gallery from many machines: Ray's workers embed, one writer keeps. Needs `pip install ".[ray]"`.

    with create_gallery(
        "galleries/big", bundle_id=..., dimension=..., duplicate_threshold=bundle.duplicate_threshold, exist_ok=True
    ) as gallery:
        result = build_index_on_ray("folder", "/shared/scans", gallery, address="10.0.0.1:6379")

Each worker is one core with a network of its own, which reads its cases from storage that every machine sees at the
same path. What a lost machine took with it is embedded again by those that remain.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import platform
import socket
import time
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sonoseek.core import (
    BundleMismatchError,
    DatasetError,
    InvalidValueError,
    SonoseekError,
    TemporaryError,
    from_extra,
)
from sonoseek.core.site_key import defer_keys, is_unkeyed, keyed
from sonoseek.datasets import open_dataset
from sonoseek.encoder import load_bundle, open_encoder
from sonoseek.gallery import CaseKey, Gallery, GalleryEntry
from sonoseek.indexing.build import BuildResult, Item, Outcome, Progress, fill, take_case
from sonoseek.indexing.case_ids import CaseIds

__all__ = ["build_index_on_ray"]

logger = logging.getLogger(__name__)

CASES_PER_TASK = 8
"""Large enough that the distribution of tasks costs little."""
IN_FLIGHT = 2
"""Tasks of a worker: one that it works on, one that waits. A slow writer makes the workers wait."""
LOOK_S, GET_S = 1.0, 60.0
"""Seconds between checks of the cluster; and for fetching what a worker has finished."""
STALL_S, MOST_STALLS = 300.0, 3
"""Seconds of silence after which all workers are stopped and others started; and how often, without one new case."""
MOST_FAILED_STARTS = 8
"""Workers in a row that may fail to start before the build gives up."""
MOST_LOST = 3
"""Workers that may die over a case, handed out alone, before it is refused."""


def build_index_on_ray(
    dataset: str,
    root: Path | str | None,
    gallery: Gallery,
    bundle: Path | str | None = None,
    *,
    address: str = "local",
    workers: int = 0,
    on_progress: Progress | None = None,
    case_ids: CaseIds = "opaque",
) -> BuildResult:
    """Put every case of a dataset into `gallery`, embedded by the machines of a Ray cluster.

    Continues where it was stopped, as `build_index` does, but embeds a changed case anew even if its pixels are known:
    the workers do not see the gallery. Scans are written in the order in which they are finished.

    Args:
        dataset: name, as in `open_dataset`.
        root: as in `open_dataset`; the same path on every machine.
        gallery: open for writing, of the bundle; this process alone writes.
        bundle: folder, the same path on every machine; None: the one that ships.
        address: "host:port" of the cluster, "auto" for the one this machine is part of, "local" for this machine alone.
        workers: at most this many; 0: one per core of the cluster.
        on_progress: called with (cases done, cases in all), from this thread.
        case_ids: as in `build_index`.

    Raises:
        MissingExtraError: ray is not installed.
        BundleMismatchError: another bundle filled the gallery, or a machine has another one.
        DatasetError: a machine cannot open the dataset.
        TemporaryError: the cluster does not answer, or was lost; what was written before stays.
        GalleryError: the gallery cannot be written.
    """
    if workers < 0:
        raise InvalidValueError(f"workers is {workers}; it must be 0 (one per core) or more.")
    source = open_dataset(dataset, root)
    path = None if bundle is None else str(Path(bundle).absolute())
    bundle_id = load_bundle(path).bundle_id
    gallery.check_bundle(bundle_id)
    job = {
        "dataset": dataset,
        "root": None if root is None else str(Path(root).absolute()),
        "bundle": path,
        "bundle_id": bundle_id,
    }

    listed = {(record.dataset, record.case_id) for record in source.records() if record.patient_id is not None}

    def work(waiting: Sequence[Item]) -> Generator[Outcome]:
        with contextlib.closing(_WorkerPool(waiting, job, workers=workers).outcomes()) as outcomes:
            for outcome in outcomes:
                yield _with_keys(outcome, listed)

    with _cluster(address, workers=workers):
        return fill(source, gallery, work, on_progress=on_progress, case_ids=case_ids)


def _with_keys(outcome: Outcome, listed: Collection[CaseKey]) -> Outcome:
    """With pseudonyms of this machine's site key for patients whom a file named; those that a table lists stay."""

    def with_key(entry: GalleryEntry) -> GalleryEntry:
        record = entry.record
        if not is_unkeyed(record.patient_id) or (record.dataset, record.case_id) in listed:
            return entry
        return replace(entry, record=replace(record, patient_id=keyed(str(record.patient_id))))

    return replace(outcome, entries=tuple(with_key(entry) for entry in outcome.entries))


class _Worker:
    """One core's network and its view of the dataset. Faults travel back as values, so that Ray does not wrap them."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.fault: SonoseekError | None = None
        defer_keys()  # the site key stays on the machine that writes
        where = platform.node()
        try:
            self.dataset = open_dataset(job["dataset"], job["root"])
        except (SonoseekError, OSError) as error:
            self.fault = DatasetError(
                f"machine {where} cannot open the dataset {job['dataset']!r} at {job['root']}: {error} "
                "Every machine of the cluster must see it at the same path. Mount the shared storage there."
            )
            return
        try:
            self.encoder = open_encoder(job["bundle"], threads=1)
        except SonoseekError as error:
            self.fault = error
            return
        bundle_id = self.encoder.bundle.bundle_id
        if bundle_id != job["bundle_id"]:
            self.fault = BundleMismatchError(
                f"machine {where} has bundle {bundle_id!r}, the build is of {job['bundle_id']!r}; one gallery holds "
                "the embeddings of one bundle. Install the same sonoseek there, or share one bundle with --bundle."
            )

    def ready(self) -> bool:
        """Answered once the network is loaded."""
        return True

    def take(self, items: Sequence[Item]) -> bytes:
        """What became of each case, pickled: arrays that Ray sends itself stay in its store as long as they live."""
        return pickle.dumps([self._take(item) for item in items])

    def _take(self, item: Item) -> Outcome | SonoseekError:
        if self.fault is not None:
            return self.fault
        try:
            return take_case(self.dataset, self.encoder, item)
        except SonoseekError as error:
            return error


@dataclass(eq=False)
class _Task:
    """Cases handed out together; and how many workers were lost over the one, if it is one."""

    items: Sequence[Item]
    lost: int = 0


class _WorkerPool:
    """The cluster's workers, and the tasks of each.

    Plain calls of plain actors, so Ray repeats nothing by itself. Its streams, on which Ray Data is built, can wait for
    ever after a machine is lost (ray-project/ray issues 62535 and 64581).
    """

    def __init__(self, waiting: Sequence[Item], job: dict[str, Any], *, workers: int) -> None:
        import ray

        self._ray = ray
        self._job = job
        self._workers = workers
        self._actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Worker)
        self._todo = deque(
            _Task(waiting[start : start + CASES_PER_TASK]) for start in range(0, len(waiting), CASES_PER_TASK)
        )
        self._starting: dict[Any, Any] = {}
        self._loads: dict[Any, int] = {}
        """Unfinished tasks by worker; a worker is here once it is ready."""
        self._at_work: dict[Any, tuple[Any, _Task]] = {}
        self._failed_starts = 0

    def outcomes(self) -> Generator[Outcome]:
        """One outcome for each case, in the order in which they are finished.

        Raises:
            SonoseekError: what is wrong with more than one case.
            TemporaryError: workers do not start, nothing is heard of them, or the cluster itself is lost.
        """
        try:
            yield from self._outcomes()
        except self._ray.exceptions.RayError as error:
            raise self._nothing(_first_line(error)) from error
        finally:
            self._stop_workers()

    def _outcomes(self) -> Generator[Outcome]:
        heard, stalls = time.monotonic(), 0
        while self._todo or self._at_work:
            self._start_workers()
            self._hand_out()
            refs = [*self._starting, *self._at_work]
            ready = self._ray.wait(refs, timeout=LOOK_S)[0] if refs else []
            if ready:
                heard = time.monotonic()
            for ref in ready:
                if ref in self._starting:
                    self._begin(ref)
                elif ref in self._at_work:  # not if the worker was found lost a moment ago
                    outcomes = self._collect(ref)
                    stalls = 0 if outcomes else stalls
                    yield from outcomes
                    heard = time.monotonic()  # the writer's time is not the workers'
            if time.monotonic() - heard > STALL_S:
                logger.warning("nothing was heard of Ray's workers for %g s; handing their cases out anew", STALL_S)
                refused = self._give_up()
                stalls = 0 if refused else stalls + 1
                if stalls == MOST_STALLS:
                    raise self._nothing(f"nothing was heard of its workers {stalls} times for {STALL_S:g} s")
                yield from refused
                heard = time.monotonic()

    def _start_workers(self) -> None:
        """Workers as many as the cluster has cores now, and no more than there is work for."""
        cores = self._workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        wanted = min(cores, len(self._todo) + len(self._at_work))
        if self._loads and self._failed_starts >= MOST_FAILED_STARTS:
            return  # a machine on which they do not start; those on the others go on
        for _ in range(wanted - len(self._starting) - len(self._loads)):
            actor = self._actor.remote(self._job)
            self._starting[actor.ready.remote()] = actor

    def _begin(self, ref: Any) -> None:
        actor = self._starting.pop(ref)
        try:
            self._ray.get(ref, timeout=GET_S)
        except self._ray.exceptions.RayError as error:
            self._failed_starts += 1
            logger.warning("a worker of Ray did not start: %s", _first_line(error))
            if self._failed_starts >= MOST_FAILED_STARTS and not self._loads:
                raise self._nothing(f"its workers do not start: {_first_line(error)}") from error
        else:
            self._failed_starts = 0
            self._loads[actor] = 0

    def _hand_out(self) -> None:
        """Two tasks each, so that none waits for the writer; the least laden first."""
        while self._todo and self._loads:
            actor = min(self._loads, key=self._loads.__getitem__)
            if self._loads[actor] >= IN_FLIGHT:
                return
            task = self._todo.popleft()
            self._loads[actor] += 1
            self._at_work[actor.take.remote(task.items)] = actor, task

    def _collect(self, ref: Any) -> list[Outcome]:
        """What a task came to; nothing if its worker was lost, whose tasks then wait again."""
        actor, task = self._at_work[ref]
        try:
            outcomes = pickle.loads(self._ray.get(ref, timeout=GET_S))  # noqa: S301  # made by our own workers
        except self._ray.exceptions.RayError as error:
            logger.warning("a worker of Ray was lost (%s); its cases are handed out anew", _first_line(error))
            return self._lose(actor, first=task)
        del self._at_work[ref]
        self._loads[actor] -= 1
        for outcome in outcomes:
            if isinstance(outcome, SonoseekError):
                raise outcome
        return list(outcomes)

    def _lose(self, actor: Any, *, first: _Task) -> list[Outcome]:
        """Take a worker's tasks back. `first` is the one that it was lost over, as far as can be known."""
        for ref, task in [(ref, task) for ref, (owner, task) in self._at_work.items() if owner is actor]:
            del self._at_work[ref]
            if task is not first:
                self._todo.appendleft(task)
        del self._loads[actor]
        self._kill(actor)
        return self._blame(first, "died over it")

    def _give_up(self) -> list[Outcome]:
        """Stop every worker after a silence: what each was working on may be a case that never ends."""
        first: dict[Any, Any] = {}
        for ref, (actor, _) in self._at_work.items():  # in the order in which they were handed out
            first.setdefault(actor, ref)
        blamed = [self._at_work.pop(ref)[1] for ref in first.values()]
        self._stop_workers()
        return [outcome for task in blamed for outcome in self._blame(task, "did not come to an end with it")]

    def _blame(self, task: _Task, what: str) -> list[Outcome]:
        """A task over which a worker was lost waits again, last of all and each of its cases alone.

        A case over which worker after worker dies is refused: it would take every core of the cluster down in turn.
        """
        if len(task.items) > 1:
            self._todo.extend(_Task([item]) for item in task.items)
            return []
        task.lost += 1
        if task.lost < MOST_LOST:
            self._todo.append(task)
            return []
        record, _ = task.items[0]
        reason = f"{MOST_LOST} workers of Ray {what}; see that its files are sound, and not too large for them."
        return [Outcome(source=f"{record.dataset}/{record.case_id}", reason=reason)]

    def _stop_workers(self) -> None:
        """Stop every worker; their unfinished tasks wait again."""
        self._todo.extendleft(task for _, task in self._at_work.values())
        if self._ray.is_initialized():  # or asking it for anything would begin a cluster
            for actor in (*self._starting.values(), *self._loads):
                self._kill(actor)
        self._starting, self._loads, self._at_work = {}, {}, {}

    def _kill(self, actor: Any) -> None:
        with contextlib.suppress(Exception):  # it, its machine or the whole cluster may be gone
            self._ray.kill(actor)

    def _nothing(self, why: str) -> TemporaryError:
        return TemporaryError(
            f"Ray gives no result any more: {why}. See that the cluster's machines are up and have cores to spare "
            "(`ray status`), then start the build again: it continues."
        )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextlib.contextmanager
def _cluster(address: str, *, workers: int) -> Iterator[None]:
    """Join the cluster, quietly, and leave it afterwards.

    Raises:
        MissingExtraError, TemporaryError: as in `build_index_on_ray`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray warns will be its default
    with from_extra("ray"):
        import ray
    joined: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        joined |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        joined |= {"num_cpus": workers} if workers else {}
    else:
        _knock(address)
    try:
        ray.init(address=address, **joined)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _silent(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ask at the port first: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise InvalidValueError(f"--ray is {address!r}; it must be 'host:port', 'auto' or 'local'.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise _silent(address, error) from error


def _silent(address: str, error: Exception) -> TemporaryError:
    return TemporaryError(
        f"no Ray cluster answers at {address!r} ({error}); the build needs one. Start it with `ray start --head` and "
        "run the build on one of its machines, or say `--ray local` for this machine alone."
    )
