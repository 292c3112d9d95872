"""Run a protocol with a system, round by round; finished rounds are kept, and a stopped run is continued."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, InvalidValueError, ResultsError, require_extra
from sonoseek.core.version import __version__
from sonoseek.evaluate.context import BenchmarkContext
from sonoseek.evaluate.corruptions import CORRUPTIONS
from sonoseek.evaluate.files import CASES, ROWS, place_about, place_results, read_cases, read_results, write_cases
from sonoseek.evaluate.protocols.base import Round
from sonoseek.evaluate.ranking import rank, relevant_among
from sonoseek.evaluate.reader_marks import check_reads_marks, gives_marks, with_marks
from sonoseek.evaluate.rows import TEST, VALIDATION, CaseRow, RoundRow, ScanRow, Search, SystemResults
from sonoseek.evaluate.seen import check_sides, without_seen
from sonoseek.evaluate.systems.base import Fitted, LabelledScan, Predictions, System, Task
from sonoseek.evaluate.systems.bundle import BundleSystem, FittedBundle
from sonoseek.evaluate.tables import locked, write_json

DONE = "round.json"
StepProgress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


def evaluate(
    context: BenchmarkContext,
    system: System,
    *,
    runs: Path,
    out: Path,
    robustness: bool = False,
    finished: bool = False,
    command: str = "",
    on_progress: StepProgress | None = None,
) -> Path:
    """Score a system on every round of a protocol and put its rows into the protocol's tables.

    A round that was finished by the same system on the same sides is not done again. The test side of a round is read
    once, after everything is fitted. Rows of other systems stay: several systems may be scored at once.

    Args:
        context: the protocol, opened and guarded.
        system: what learns and predicts.
        runs: folder for the rounds while they are under way: `runs/<protocol>/<system>/seed-0/fold-0` ….
        out: folder for results: `out/<protocol>/`.
        robustness: score the first seed's test scans again under every corruption of `corruptions`.
        finished: score the rounds whose training has ended, and train none. Where some are lacking, `about.json` says
            how many stand ("unfinished"); only for protocols whose rounds each test a whole archive.
        command: that made this, for `about.json`.
        on_progress: (what, done, total).

    Returns:
        The protocol's folder of results.

    Raises:
        MissingExtraError: a package of the extra `evaluate` is not installed; nothing was scored.
        ResultsError: `out` holds results of other scans under the protocol's name; what a bundle serves differs from
            what was scored.
        SplitError: more than half of the test scans of another archive are scans that the bundle has learnt from.
        SplitError, BundleError: as systems raise them.
        InvalidValueError: the protocol gives a reader's mark, and the system reads none, or `robustness` is asked for;
            `finished`, and no round is, or the protocol's rounds each test a part of an archive.
    """
    require_extra("evaluate")
    if gives_marks(context.protocol):
        if robustness:
            raise InvalidValueError(
                f"robustness is wanted under {context.protocol.name!r}; it changes the pixels that the reader's "
                "marks lie on. Leave it out, or take the protocol leave-one-hospital-out."
            )
        check_reads_marks(system, context.rounds)
    progress = on_progress or _no_progress
    context, tasks = open_tasks(context, system, runs=runs)
    if finished:
        tasks = _trained(context, system, tasks)
    waiting = [t for t in tasks if not _finished(context, t, system, robustness=_with_robustness(t, robustness))]
    if waiting:
        system.prepare(waiting, on_progress=lambda done, total: progress("learning", done, total))
    cases = {case.scan: case for case in context.cases(context.rounds)}
    target = out / context.protocol.name
    _check_cases(target / CASES, cases)  # now, rather than after the scoring
    merged: list[SystemResults] = []
    for number, task in enumerate(tasks):
        again = _with_robustness(task, robustness)
        if task in waiting:
            _run_round(context, system, task, robustness=again, progress=progress)
        progress("rounds", number + 1, len(tasks))
        merged.append(read_results(task.folder, cases, complete=False)[system.name])
    about = about_system(context, system, command=command)
    if len(tasks) < len(context.rounds):
        about["unfinished"] = {"rounds": len(tasks), "of": len(context.rounds)}
    results = SystemResults(
        rows=tuple(row for part in merged for row in part.rows),
        rounds=tuple(row for part in merged for row in part.rounds),
    )
    with locked(target):
        _check_cases(target / CASES, cases)
        if not (target / CASES).is_file():
            write_cases(target / CASES, cases.values())
        place_results(target, results, system=system.name)
        place_about(target, protocol=_about_protocol(context), name=system.name, about=about)
    return target


def _no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


def versions() -> dict[str, str]:
    """Of what a figure depends on."""
    names = ("numpy", "scipy", "scikit-learn", "scikit-image", "onnxruntime", "opencv-python-headless")
    installed = {"sonoseek": __version__, "python": platform.python_version()}
    for name in names:
        try:
            installed[name] = version(name)
        except ModuleNotFoundError:  # an optional one
            continue
    return installed


def about_system(context: BenchmarkContext, system: System, *, command: str, **more: Any) -> dict[str, Any]:
    """The entry of a system in `about.json`: what it is, and what made its rows, `more` included."""
    made = {
        "command": command,
        "data": context.data_hash(context.rounds),
        "versions": versions(),
        "refused": dict(sorted(context.refused.items())),
        **more,
    }
    if context.seen is not None:  # test scans were looked for in the training data
        made["seen_in_training"] = asdict(context.seen)
    return {
        "system": {name: getattr(system, name) for name in ("name", "title", "description", "identity")},
        "made": made,
    }


def _about_protocol(context: BenchmarkContext) -> dict[str, Any]:
    names = ("name", "title", "description", "exclusions", "guarded")
    return {name: getattr(context.protocol, name) for name in names}


def open_tasks(context: BenchmarkContext, system: System, *, runs: Path) -> tuple[BenchmarkContext, list[Task]]:
    """The context without what a finished bundle has learnt from, and the task of each round.

    Raises:
        SplitError: as `check_sides` and `without_seen`.
    """
    if isinstance(system, BundleSystem):
        check_sides(context, system.bundle_of)
        context = without_seen(context, system.bundle_of)
    tasks = [
        Task(
            round_=round_,
            datasets=context.datasets,
            classes=context.classes(round_.train),
            folder=runs / context.protocol.name / system.name / round_.label,
            read=context.samples,
        )
        for round_ in context.rounds
    ]
    return context, tasks


def _trained(context: BenchmarkContext, system: System, tasks: Sequence[Task]) -> list[Task]:
    """The rounds whose training has ended; all of a system without `is_trained`."""
    is_trained = getattr(system, "is_trained", None)
    trained = [task for task in tasks if is_trained is None or is_trained(task)]
    if not trained:
        raise InvalidValueError(
            f"of {len(tasks)} rounds of {system.name!r} none is trained; nothing can be scored. Leave --finished out, "
            "which trains them, or name the folder of their runs (--runs)."
        )
    if len(trained) < len(tasks) and not getattr(context.protocol, "own_archive", False):
        raise InvalidValueError(
            f"of {len(tasks)} rounds of {system.name!r} {len(trained)} are trained; under {context.protocol.name!r} "
            "each tests a part of an archive, and a part is not scored alone. Leave --finished out: the rest trains."
        )
    return trained


def _with_robustness(task: Task, robustness: bool) -> bool:
    return robustness and task.round_.seed == 0


def _finished(context: BenchmarkContext, task: Task, system: System, *, robustness: bool) -> bool:
    """Whether this round was finished by this very system on these very sides and pixels."""
    file = task.folder / DONE
    if not (file.is_file() and (task.folder / ROWS).is_file()):
        return False
    done = json.loads(file.read_text(encoding="utf-8"))
    same = all(done.get(name) == value for name, value in _mark(context, task.round_, system).items())
    return bool(same and (done["robustness"] or not robustness))


def _mark(context: BenchmarkContext, round_: Round, system: System) -> dict[str, str]:
    """What a finished round must be of."""
    return {"round": round_.digest, "system": system.identity, "data": context.data_hash([round_])}


def _run_round(
    context: BenchmarkContext, system: System, task: Task, *, robustness: bool, progress: StepProgress
) -> None:
    """One round: fit, predict, rank, write."""
    round_ = task.round_
    fitted = system.fit(task)
    classes = np.array([name in task.classes for name in PATHOLOGIES]) if task.classes else np.ones(3, dtype=np.bool_)
    gallery, validation = context.samples(round_.gallery), context.samples(round_.validation)
    gallery_predictions = _predict(fitted, gallery, classes, progress, f"{round_.label}: gallery")
    validation_names = {s.name for s in validation}
    test = context.samples(round_.test)  # touched here for the first time
    queries = with_marks(test, context.datasets) if gives_marks(context.protocol) else test
    test_predictions = _predict(fitted, queries, classes, progress, f"{round_.label}: test")
    groups = context.group_number_of([*gallery, *test]) if context.protocol.guarded else None
    search = partial(rank, gallery=gallery, gallery_embeddings=gallery_predictions.embeddings, groups=groups)
    searches = search(test, test_predictions.embeddings) if gallery else []
    own: list[Search] = []
    if getattr(context.protocol, "own_archive", False):
        # an archive is read without marks
        archive = (
            test_predictions
            if queries is test
            else _predict(fitted, test, classes, progress, f"{round_.label}: own archive")
        )
        own_groups = context.group_number_of(test)
        own = rank(
            test, test_predictions.embeddings, gallery=test, gallery_embeddings=archive.embeddings, groups=own_groups
        )
    if isinstance(fitted, FittedBundle) and gallery and context.protocol.guarded:
        fitted.check_served(gallery, gallery_predictions.embeddings, queries=queries, ranked=searches)
    rows = _rows(context, round_, test, test_predictions.probabilities, side=TEST, searches=searches, own=own)
    validation_rows = [row for row, sample in enumerate(gallery) if sample.name in validation_names]
    rows += _rows(
        context,
        round_,
        [gallery[i] for i in validation_rows],
        gallery_predictions.probabilities[validation_rows],
        side=VALIDATION,
    )
    if robustness:
        labels = {s.name: s.record.pathology for s in (*gallery, *test)}
        for number, condition in enumerate(CORRUPTIONS, start=1):
            samples = [replace(sample, scan=condition.apply(sample.scan)) for sample in test]
            predictions = _predict(fitted, samples, classes, _no_progress, "")
            progress(f"{round_.label}: changed scans", number, len(CORRUPTIONS))
            matches = search(samples, predictions.embeddings) if gallery else [None] * len(samples)
            changed = _rows(context, round_, samples, predictions.probabilities, side=TEST, condition=condition.name)
            rows += [
                msgspec.structs.replace(row, relevant_of_5=relevant_among(search, row.label, labels))
                for row, search in zip(changed, matches, strict=True)
            ]
    results = SystemResults(rows=tuple(rows), rounds=(_round_row(context, round_, fitted, gallery),))
    (task.folder / ROWS).unlink(missing_ok=True)  # of another system of this name, perhaps
    place_results(task.folder, results, system=system.name)
    write_json(task.folder / DONE, {**_mark(context, round_, system), "robustness": robustness})


def _predict(
    fitted: Fitted, samples: Sequence[LabelledScan], classes: NDArray[np.bool_], progress: StepProgress, what: str
) -> Predictions:
    """A system's predictions, restricted to the classes of its training side."""
    if not samples:
        return Predictions(probabilities=np.zeros((0, len(PATHOLOGIES))), embeddings=np.zeros((0, 1), np.float32))
    predictions = fitted.predict(samples, on_progress=lambda done, total: progress(what, done, total))
    p = predictions.probabilities * classes
    total = p.sum(axis=1, keepdims=True)
    even = classes / classes.sum()
    return replace(predictions, probabilities=np.where(total > 0, p / np.maximum(total, 1e-12), even))


def _rows(
    context: BenchmarkContext,
    round_: Round,
    samples: Sequence[LabelledScan],
    probabilities: NDArray[np.float64],
    *,
    side: str,
    condition: str = "",
    searches: Sequence[Search] = (),
    own: Sequence[Search] = (),
) -> list[ScanRow]:
    groups = context.group_of(samples)
    return [
        ScanRow(
            seed=round_.seed,
            fold=round_.fold,
            side=side,
            condition=condition,
            scan=sample.name,
            group=groups[sample.name],
            label=sample.record.pathology,
            normal=float(p[0]),
            benign=float(p[1]),
            malignant=float(p[2]),
            search=searches[i] if searches else None,
            own_archive=own[i] if own else None,
        )
        for i, (sample, p) in enumerate(zip(samples, probabilities, strict=True))
    ]


def _round_row(context: BenchmarkContext, round_: Round, fitted: Fitted, gallery: Sequence[LabelledScan]) -> RoundRow:
    labels = [sample.record.pathology for sample in gallery]
    own = fitted.thresholds
    thresholds = {} if own is None else {name: getattr(own, name) for name in own.__dataclass_fields__}
    return RoundRow(
        seed=round_.seed,
        fold=round_.fold,
        train=sum(map(len, round_.train.values())),
        validation=sum(map(len, round_.validation.values())),
        test=sum(map(len, round_.test.values())),
        **{f"gallery_{name}": labels.count(name) for name in PATHOLOGIES},
        leaking_share=context.leaking[round_.label],
        dropped=context.dropped[round_.label],
        identity=fitted.identity,
        **thresholds,
    )


def _check_cases(path: Path, cases: Mapping[str, CaseRow]) -> None:
    """Check that the protocol's cases in the results, if any, are the same."""
    if path.is_file() and read_cases(path) != cases:
        raise ResultsError(
            f"{path} lists other cases than are scored here: of other data, or less what another bundle has learnt "
            "from. Results of different scans do not stand side by side. Give another folder (--out), or move the old "
            "results away."
        )
