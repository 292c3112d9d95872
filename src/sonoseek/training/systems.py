"""A recipe as a system that an evaluation scores: one network per round, trained side by side on all cores."""

from __future__ import annotations

import multiprocessing
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from sonoseek.core import CaseRecord, InvalidValueError, NotFoundError
from sonoseek.core.cores import available_cores
from sonoseek.datasets import Dataset
from sonoseek.encoder import load_bundle
from sonoseek.evaluate.protocols import Round, classes_of
from sonoseek.evaluate.systems.base import Fitted, Progress, Task
from sonoseek.evaluate.systems.bundle import FittedBundle
from sonoseek.training.options import CPU, Machine
from sonoseek.training.recipe import DatasetChoice, Recipe, recipe_digest, recipe_to_dict

TRAINING = "training"
"""Folder of the run inside a round's folder."""
ON_A_GPU = 4
"""Rounds that share a GPU, by default: one alone leaves it waiting for the CPU."""
POLL = 0.5
"""Seconds between looks at the children's progress."""


class RecipeSystem:
    """Trains by a recipe on the training side of each round, whatever datasets the recipe names."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        data_root: Path | None,
        weights_root: Path | None,
        cache: Path,
        workers: int = 0,
        machine: Machine = CPU,
    ) -> None:
        """Prepare.

        Args:
            recipe: its folded datasets are replaced by those of the protocol; others are learnt from beside them,
                unless the protocol tests on them.
            data_root: folder with the datasets.
            weights_root: folder with the start weights.
            cache: folder for preprocessed scans; keep it out of any repository.
            workers: rounds trained at the same time; 0: one per core, or `ON_A_GPU` where they share a GPU.
            machine: where each round computes, in one process.

        Raises:
            InvalidValueError: several devices or nodes: rounds are trained side by side, each in one process.
        """
        if machine.processes > 1:
            raise InvalidValueError(
                f"machine has {machine.processes} processes; an evaluation trains its rounds side by side, each in one "
                "process. Leave devices and nodes at 1."
            )
        self.recipe = recipe
        self.name = recipe.name
        self.title = recipe.name
        self.description = (
            f"{recipe.network} on {recipe.backbone}, {recipe.preprocessing_recipe.canvas_size} px, trained per round "
            f"(at most {recipe.optimiser.epochs} epochs), served through ONNX"
            f"{', mean of several views' if recipe.many_views else ''}."
        )
        self.identity = recipe_digest(recipe_to_dict(recipe))
        self._roots = (data_root, weights_root)
        self._cache = cache
        self._cores = available_cores()
        self._workers = workers
        self._machine = machine

    def prepare(self, tasks: Sequence[Task], *, on_progress: Progress | None = None) -> None:
        """Train every round that is not trained yet.

        Raises:
            InvalidValueError: a round's folder holds a run of another recipe, or of other sides.
        """
        from sonoseek.training.distributed import accelerator_of

        waiting = [task for task in tasks if not self.is_trained(task)]
        if not waiting:
            return
        self._preprocess(waiting)
        jobs = [self._job(task) for task in waiting]
        context = multiprocessing.get_context("spawn")
        progress: Any = context.Queue()
        usual = min(self._cores, ON_A_GPU) if accelerator_of(self._machine) == "gpu" else self._cores
        workers = min(self._workers or usual, len(jobs))
        threads = max(1, self._cores // workers)
        with ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(progress, threads), max_tasks_per_child=1
        ) as pool:
            futures: list[Future[None]] = [pool.submit(_train, number, job) for number, job in enumerate(jobs)]
            try:
                _add_up(futures, progress, on_progress)
            except BaseException:
                for process in list(pool._processes.values()):
                    process.terminate()  # what they have finished stays; the same command goes on from there
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            for future in as_completed(futures):
                future.result()

    def reads_marks(self, round_: Round) -> bool:
        """Whether its networks read a reader's mark."""
        del round_
        return self.recipe.close_up

    def fit(self, task: Task) -> Fitted:
        """Open the round's bundle; train it first if need be."""
        self.prepare([task])
        return FittedBundle(load_bundle(task.folder / TRAINING / "bundle"))

    def is_trained(self, task: Task) -> bool:
        """Whether this very recipe was trained on these very sides; what differs is refused by `train`."""
        from sonoseek.training.run_folder import is_finished

        return is_finished(task.folder / TRAINING, self._recipe_for(task), round_=task.round_)

    def _recipe_for(self, task: Task) -> Recipe:
        records = {name: {r.case_id: r for r in dataset.records()} for name, dataset in task.datasets.items()}
        return recipe_for(self.recipe, task.round_, records)

    def _preprocess(self, tasks: Sequence[Task]) -> None:
        """Preprocess the scans once, before the children would each do it."""
        from sonoseek.training.prepare import prepare

        for dataset in tasks[0].datasets.values():
            if any(dataset.name in task.round_.train for task in tasks):
                prepare(dataset, recipe=self.recipe.preprocessing_recipe, cache=self._cache)

    def _job(self, task: Task) -> _Job:
        return _Job(
            recipe=msgspec.json.encode(self._recipe_for(task)),
            round_=task.round_,
            datasets={name: task.datasets[name] for name in task.round_.train},
            roots=self._roots,
            run_dir=task.folder / TRAINING,
            cache=self._cache,
            teachers=tuple(self._teacher(task, name) for name in self.recipe.teacher.systems),
            machine=self._machine,
        )

    def _teacher(self, task: Task, name: str) -> Path:
        """The bundle that another recipe's training left for the very same round.

        Raises:
            NotFoundError: it has not been trained yet.
        """
        label = Path(task.round_.label)
        bundle = task.folder.parents[len(label.parts)] / name / label / TRAINING / "bundle"
        if not bundle.is_dir():
            raise NotFoundError(
                f"no teacher {name!r} for round {label}: {bundle} is not there. Run `sonoseek evaluate --system "
                f"{name}` under the same protocol and seeds first."
            )
        return bundle


def recipe_for(recipe: Recipe, round_: Round, records: Mapping[str, Mapping[str, CaseRecord]]) -> Recipe:
    """The recipe with the round's datasets in place of its folded ones, and without any that is tested.

    A dataset's classes are those that its training side holds: an archive without normal scans teaches nothing of them.
    """
    chosen = tuple(
        DatasetChoice(name=name, classes=classes_of(records[name][case_id] for case_id in ids))  # type: ignore[arg-type]
        for name, ids in round_.train.items()
    )
    taken = {*round_.train, *round_.test}
    beside = tuple(choice for choice in recipe.datasets if not choice.folded and choice.name not in taken)
    return msgspec.structs.replace(recipe, datasets=(*chosen, *beside))


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a child needs to train one round."""

    recipe: bytes
    round_: Round
    datasets: Mapping[str, Dataset]
    roots: tuple[Path | None, Path | None]
    run_dir: Path
    cache: Path
    teachers: tuple[Path, ...]
    machine: Machine


_PROGRESS: Any = None
"""The queue to the parent, in a child."""


def _begin(progress: Any, threads: int) -> None:
    global _PROGRESS  # a pool hands its children nothing else
    _PROGRESS = progress
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """A child whose parent was killed would train on, against the run that takes the round up again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _train(number: int, job: _Job) -> None:
    from sonoseek.training.run import train

    data_root, weights_root = job.roots
    train(
        msgspec.json.decode(job.recipe, type=Recipe),
        data_root=data_root,
        weights_root=weights_root,
        run_dir=job.run_dir,
        round_=job.round_,
        datasets=job.datasets,
        resume=True,
        cache=job.cache,
        teachers=job.teachers,
        machine=job.machine,
        on_progress=lambda done, total: _PROGRESS.put((number, done, total)),
    )


def _add_up(futures: Sequence[Future[None]], progress: Any, on_progress: Progress | None) -> None:
    """Add up the children's steps until all have ended; a failure is raised at once."""
    steps: dict[int, tuple[int, int]] = {}
    while True:
        try:
            number, done, total = progress.get(timeout=POLL)
            steps[number] = (done, total)
        except queue.Empty:
            for future in futures:
                if future.done():
                    future.result()
            if all(future.done() for future in futures):
                return
        ended = {number for number, future in enumerate(futures) if future.done()}
        if on_progress is not None and steps:
            usual = max(total for _, total in steps.values())
            parts = [usual if n in ended else steps.get(n, (0, usual))[0] for n in range(len(futures))]
            on_progress(sum(parts), usual * len(futures))
