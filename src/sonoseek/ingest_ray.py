"""Filling a gallery from many machines: Ray's workers embed, one writer keeps. Needs `pip install "sonoseek[ray]"`.

    with create_gallery("galleries/big", bundle_id=..., dimension=..., exist_ok=True) as gallery:
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
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from sonoseek.core import (
    BundleMismatchError,
    DatasetError,
    InvalidValueError,
    MissingExtraError,
    SonoseekError,
    TemporaryError,
)
from sonoseek.datasets import open_dataset
from sonoseek.encoder import load_bundle, open_encoder
from sonoseek.gallery import Gallery
from sonoseek.ingest import IngestResult, Item, Outcome, Progress, check_bundle, fill, take_case

__all__ = ["build_index_on_ray"]

logger = logging.getLogger(__name__)

CASES_PER_TASK = 8
"""What a lost worker loses; large enough that handing out tasks costs little."""
MAX_TASKS = 10_000
IDLE_ROUNDS = 3
"""Rounds in a row that may end early without one new case before the build gives up."""


def build_index_on_ray(
    dataset: str,
    root: Path | str | None,
    gallery: Gallery,
    bundle: Path | str | None = None,
    *,
    address: str = "local",
    workers: int = 0,
    on_progress: Progress | None = None,
) -> IngestResult:
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
    check_bundle(gallery, bundle_id)
    job = {
        "dataset": dataset,
        "root": None if root is None else str(Path(root).absolute()),
        "bundle": path,
        "bundle_id": bundle_id,
    }

    def work(waiting: Sequence[Item]) -> Generator[Outcome]:
        return _outcomes(waiting, job, workers=workers)

    with _cluster(address, workers=workers):
        return fill(source, gallery, work, on_progress=on_progress)


class _Worker:
    """One core's network and its view of the dataset. Faults travel back as values, so that Ray does not retry them."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.fault: SonoseekError | None = None
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
        found = self.encoder.bundle.bundle_id
        if found != job["bundle_id"]:
            self.fault = BundleMismatchError(
                f"machine {where} has bundle {found!r}, the build is of {job['bundle_id']!r}; one gallery holds the "
                "embeddings of one bundle. Install the same sonoseek there, or share one bundle with --bundle."
            )

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        return {
            "number": [int(number) for number in batch["number"]],
            "outcome": [pickle.dumps(self._take(pickle.loads(item))) for item in batch["item"]],  # noqa: S301 - our own
        }

    def _take(self, item: Item) -> Outcome | SonoseekError:
        if self.fault is not None:
            return self.fault
        try:
            return take_case(self.dataset, self.encoder, item)
        except SonoseekError as error:
            return error


def _outcomes(waiting: Sequence[Item], job: dict[str, Any], *, workers: int) -> Generator[Outcome]:
    """One outcome for each case, whatever is lost on the way: what one round leaves out, the next takes up."""
    from ray.exceptions import RayError

    remaining = dict(enumerate(waiting))
    idle = 0
    while remaining:
        before, why = len(remaining), "the stream ended early"
        try:
            for number, outcome in _round(remaining, job, workers=workers):
                if isinstance(outcome, SonoseekError):
                    raise outcome
                if remaining.pop(number, None) is not None:
                    yield outcome
        except RayError as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
        if remaining:
            logger.warning("Ray left %d cases out (%s); handing them out again", len(remaining), why)
            idle = idle + 1 if len(remaining) == before else 0
            if idle == IDLE_ROUNDS:
                raise TemporaryError(
                    f"Ray gave no result for {len(remaining)} cases in {IDLE_ROUNDS} rounds: {why}. "
                    "See that the cluster's machines are up (`ray status`), then start the build again: it continues."
                )


def _round(
    items: dict[int, Item], job: dict[str, Any], *, workers: int
) -> Iterator[tuple[int, Outcome | SonoseekError]]:
    """Hand every item out once; what comes back, as it comes. A slow writer holds the workers back."""
    import ray
    from ray import data

    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in items.items()]
    cores = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    tasks = min(-(-len(rows) // CASES_PER_TASK), MAX_TASKS)
    stream = data.from_items(rows, override_num_blocks=tasks).map_batches(
        _Worker,
        fn_constructor_args=[job],
        batch_size=CASES_PER_TASK,
        compute=data.ActorPoolStrategy(min_size=1, initial_size=cores, max_size=cores, max_tasks_in_flight_per_actor=2),
        num_cpus=1,
        max_restarts=-1,
        max_task_retries=-1,
    )
    for row in stream.iter_rows():
        yield int(row["number"]), pickle.loads(row["outcome"])  # noqa: S301 - made by our own workers


@contextlib.contextmanager
def _cluster(address: str, *, workers: int) -> Iterator[None]:
    """Join the cluster, quietly, and leave it afterwards.

    Raises:
        MissingExtraError, TemporaryError: as in `build_index_on_ray`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray warns will be its default
    try:
        import ray
        from ray.data import DataContext
    except ImportError as error:
        raise MissingExtraError.for_package("ray", extra="ray") from error
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
    context = DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
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
