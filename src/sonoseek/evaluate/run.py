"""Walk a protocol with a system: round by round, kept as they finish, taken up where they stopped."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import sonoseek
from sonoseek.core import PATHOLOGIES, InvalidValueError, ResultsError, require_extra
from sonoseek.evaluate.corruptions import CONDITIONS, UNCHANGED
from sonoseek.evaluate.files import CASES, METRICS, read_cases, read_system, write_cases, write_system
from sonoseek.evaluate.protocols.base import Round
from sonoseek.evaluate.ranking import rank, relevant_among
from sonoseek.evaluate.reader_marks import check_reads_marks, gives_marks, with_marks
from sonoseek.evaluate.rows import PredictionRow, RobustnessRow, RoundRow, SystemResults
from sonoseek.evaluate.scene import Scene
from sonoseek.evaluate.seen import check_sides, without_seen
from sonoseek.evaluate.systems.base import Answers, Fitted, Sample, System, Task
from sonoseek.evaluate.systems.bundle import BundleSpeaks, BundleSystem

DONE = "round.json"
Report = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


def evaluate(
    scene: Scene,
    system: System,
    *,
    runs: Path,
    out: Path,
    robustness: bool = False,
    command: str = "",
    on_progress: Report | None = None,
) -> Path:
    """Score a system on every round of a protocol and write its rows and `metrics.json`.

    A round that was finished by the same system on the same sides is not done again. The test side of a round is read
    once, after everything is fitted.

    Args:
        scene: the protocol, opened and guarded.
        system: what learns and speaks.
        runs: folder for the rounds while they are under way: `runs/<protocol>/<system>/seed-0/fold-0` ….
        out: folder for results: `out/<protocol>/<system>/`.
        robustness: ask the first seed's test scans again under every condition of `corruptions`.
        command: that made this, for `metrics.json`.
        on_progress: (what, done, total).

    Returns:
        The system's folder of results.

    Raises:
        MissingExtraError: a package of the extra `evaluate` is not installed; nothing was scored.
        ResultsError: `out` holds results of other scans under the protocol's name; what a bundle serves differs from
            what was scored.
        SplitError: more than half of the test scans of another archive are scans that the bundle has learnt from.
        SplitError, BundleError: as systems raise them.
        InvalidValueError: the protocol gives a reader's mark, and the system reads none, or `robustness` is asked for.
    """
    require_extra("evaluate")
    if gives_marks(scene.protocol):
        if robustness:
            raise InvalidValueError(
                f"robustness is asked for under {scene.protocol.name!r}; it changes the pixels that the reader's marks "
                "lie on. Leave it out, or take the protocol leave-one-hospital-out."
            )
        check_reads_marks(system, scene.rounds)
    tell = on_progress or _silent
    if isinstance(system, BundleSystem):
        check_sides(scene, system.bundle_of)
        scene = without_seen(scene, system.bundle_of)
    folder = runs / scene.protocol.name / system.name
    tasks = [_task(scene, round_, folder) for round_ in scene.rounds]
    waiting = [t for t in tasks if not _finished(scene, t, system, robustness=_asked_again(t, robustness))]
    if waiting:
        system.prepare(waiting, on_progress=lambda done, total: tell("learning", done, total))
    cases = {case.scan: case for case in scene.cases(scene.rounds)}
    _check_cases(out / scene.protocol.name / CASES, list(cases.values()))  # now, rather than after the scoring
    merged: list[SystemResults] = []
    for number, task in enumerate(tasks):
        again = _asked_again(task, robustness)
        if task in waiting:
            _walk(scene, system, task, robustness=again, tell=tell)
        tell("rounds", number + 1, len(tasks))
        merged.append(read_system(task.folder, cases, complete=False))
    target = out / scene.protocol.name / system.name
    _place_cases(target.parent / CASES, list(cases.values()))
    results = SystemResults(
        predictions=tuple(row for part in merged for row in part.predictions),
        validation=tuple(row for part in merged for row in part.validation),
        retrieval=tuple(row for part in merged for row in part.retrieval),
        rounds=tuple(row for part in merged for row in part.rounds),
        robustness=tuple(row for part in merged for row in part.robustness),
        own_archive=tuple(row for part in merged for row in part.own_archive),
    )
    write_system(target, results)
    about = {
        "protocol": _about_protocol(scene),
        "system": {name: getattr(system, name) for name in ("name", "title", "description", "identity")},
        "made": {
            "command": command,
            "data": scene.data_hash(scene.rounds),
            "versions": versions(),
            "refused": dict(sorted(scene.refused.items())),
            **seen_in_training(scene),
        },
    }
    write_json(target / METRICS, about)
    return target


def _silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def versions() -> dict[str, str]:
    """Of what a figure depends on."""
    names = ("numpy", "scipy", "scikit-learn", "scikit-image", "onnxruntime", "opencv-python-headless")
    found = {"sonoseek": sonoseek.__version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:  # an optional one
            continue
    return found


def write_json(path: Path, content: Any) -> None:
    """Replace a file in one step."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def seen_in_training(scene: Scene) -> dict[str, Any]:
    """The key "seen_in_training" of `metrics.json`, where a bundle was asked which test scans it has learnt from."""
    return {} if scene.seen is None else {"seen_in_training": asdict(scene.seen)}


def _about_protocol(scene: Scene) -> dict[str, Any]:
    names = ("name", "title", "description", "exclusions", "guarded")
    return {name: getattr(scene.protocol, name) for name in names}


def _task(scene: Scene, round_: Round, folder: Path) -> Task:
    return Task(
        round_=round_,
        datasets=scene.datasets,
        classes=scene.classes(round_.train),
        folder=folder / round_.label,
        read=scene.samples,
    )


def _asked_again(task: Task, robustness: bool) -> bool:
    return robustness and task.round_.seed == 0


def _finished(scene: Scene, task: Task, system: System, *, robustness: bool) -> bool:
    """Whether this round was finished by this very system on these very sides and pixels."""
    file = task.folder / DONE
    if not file.is_file():
        return False
    done = json.loads(file.read_text(encoding="utf-8"))
    asked = {"round": task.round_.digest, "system": system.identity, "data": scene.data_hash([task.round_])}
    same = all(done.get(name) == value for name, value in asked.items())
    return bool(same and (done["robustness"] or not robustness))


def _walk(scene: Scene, system: System, task: Task, *, robustness: bool, tell: Report) -> None:
    """One round: learn, answer, rank, keep."""
    round_ = task.round_
    fitted = system.fit(task)
    classes = np.array([name in task.classes for name in PATHOLOGIES]) if task.classes else np.ones(3, dtype=np.bool_)
    gallery, validation = scene.samples(round_.gallery), scene.samples(round_.validation)
    known = _said(fitted, gallery, classes, tell, f"{round_.label}: gallery")
    held = {s.name for s in validation}
    test = scene.samples(round_.test)  # touched here for the first time
    asked = with_marks(test, scene.datasets) if gives_marks(scene.protocol) else test
    said = _said(fitted, asked, classes, tell, f"{round_.label}: test")
    ties = scene.tie_of_sample([*gallery, *test]) if scene.protocol.guarded else None
    searches = (
        rank(
            test,
            said.embeddings,
            gallery=gallery,
            gallery_embeddings=known.embeddings,
            ties=ties,
            seed=round_.seed,
            fold=round_.fold,
        )
        if gallery
        else []
    )
    own = []
    if getattr(scene.protocol, "own_archive", False):
        # an archive is read without marks
        archive = said if asked is test else _said(fitted, test, classes, tell, f"{round_.label}: own archive")
        own = rank(
            test,
            said.embeddings,
            gallery=test,
            gallery_embeddings=archive.embeddings,
            ties=scene.tie_of_sample(test),
            seed=round_.seed,
            fold=round_.fold,
        )
    if isinstance(fitted, BundleSpeaks) and gallery and scene.protocol.guarded:
        fitted.check_served(gallery, known.embeddings, queries=asked, ranked=searches)
    rows = [row for row, sample in enumerate(gallery) if sample.name in held]
    changed = _changed(scene, fitted, task, test, said, searches, known, gallery, classes, tell) if robustness else []
    results = SystemResults(
        predictions=tuple(_predictions(scene, round_, test, said.probabilities)),
        validation=tuple(_predictions(scene, round_, [gallery[i] for i in rows], known.probabilities[rows])),
        retrieval=tuple(searches),
        rounds=(_round_row(scene, round_, fitted, gallery),),
        robustness=tuple(changed),
        own_archive=tuple(own),
    )
    write_system(task.folder, results)
    done = {"round": round_.digest, "system": system.identity, "data": scene.data_hash([round_])}
    write_json(task.folder / DONE, {**done, "robustness": robustness})


def _said(fitted: Fitted, samples: Sequence[Sample], classes: NDArray[np.bool_], tell: Report, what: str) -> Answers:
    """A system's answers, held to the classes that its training side holds."""
    if not samples:
        return Answers(probabilities=np.zeros((0, len(PATHOLOGIES))), embeddings=np.zeros((0, 1), np.float32))
    answers = fitted.answer(samples, on_progress=lambda done, total: tell(what, done, total))
    p = answers.probabilities * classes
    total = p.sum(axis=1, keepdims=True)
    even = classes / classes.sum()
    return replace(answers, probabilities=np.where(total > 0, p / np.maximum(total, 1e-12), even))


def _predictions(
    scene: Scene, round_: Round, samples: Sequence[Sample], probabilities: NDArray[np.float64]
) -> list[PredictionRow]:
    groups = scene.group_of(samples)
    return [
        PredictionRow(
            seed=round_.seed,
            fold=round_.fold,
            scan=sample.name,
            group=groups[sample.name],
            label=sample.record.pathology,
            probabilities=tuple(map(float, p)),
        )
        for sample, p in zip(samples, probabilities, strict=True)
    ]


def _round_row(scene: Scene, round_: Round, fitted: Fitted, gallery: Sequence[Sample]) -> RoundRow:
    labels = [sample.record.pathology for sample in gallery]
    own = fitted.thresholds
    thresholds = {} if own is None else {name: getattr(own, name) for name in own.__dataclass_fields__}
    return RoundRow(
        seed=round_.seed,
        fold=round_.fold,
        train=sum(map(len, round_.train.values())),
        validation=sum(map(len, round_.validation.values())),
        test=sum(map(len, round_.test.values())),
        gallery=tuple(labels.count(name) for name in PATHOLOGIES),
        leaking_share=scene.leaking[round_.label],
        dropped=scene.dropped[round_.label],
        identity=fitted.identity,
        **thresholds,
    )


def _changed(
    scene: Scene,
    fitted: Fitted,
    task: Task,
    test: Sequence[Sample],
    said: Answers,
    searches: Sequence[Any],
    known: Answers,
    gallery: Sequence[Sample],
    classes: NDArray[np.bool_],
    tell: Report,
) -> list[RobustnessRow]:
    """The test side again under every condition, and once more unchanged, to compare with."""
    round_ = task.round_
    labels = {s.name: s.record.pathology for s in (*gallery, *test)}
    ties = scene.tie_of_sample([*gallery, *test]) if scene.protocol.guarded else None
    rows = _robustness_rows(UNCHANGED, round_, test, said, relevant_among(searches, labels) if gallery else None)
    for number, condition in enumerate(CONDITIONS, start=1):
        samples = [replace(sample, scan=condition.apply(sample.scan)) for sample in test]
        answers = _said(fitted, samples, classes, _silent, "")
        tell(f"{round_.label}: changed scans", number, len(CONDITIONS))
        found = None
        if gallery:
            ranked = rank(
                samples,
                answers.embeddings,
                gallery=gallery,
                gallery_embeddings=known.embeddings,
                ties=ties,
                seed=round_.seed,
                fold=round_.fold,
            )
            found = relevant_among(ranked, labels)
        rows += _robustness_rows(condition.name, round_, samples, answers, found)
    return rows


def _robustness_rows(
    condition: str, round_: Round, samples: Sequence[Sample], answers: Answers, found: Sequence[int] | None
) -> list[RobustnessRow]:
    return [
        RobustnessRow(
            condition=condition,
            seed=round_.seed,
            fold=round_.fold,
            scan=sample.name,
            probabilities=tuple(map(float, answers.probabilities[i])),
            relevant_of_5=-1 if found is None else found[i],
        )
        for i, sample in enumerate(samples)
    ]


def _check_cases(path: Path, cases: Sequence[Any]) -> None:
    """See that the protocol's cases that stand in the results, if any do, are the same."""
    if path.is_file() and read_cases(path) != {case.scan: case for case in cases}:
        raise ResultsError(
            f"{path} lists other cases than are scored here: of other data, or less what another bundle has learnt "
            "from. Results of different scans do not stand side by side. Give another folder (--out), or move the old "
            "results away."
        )


def _place_cases(path: Path, cases: Sequence[Any]) -> None:
    """Write the protocol's cases, or see that the ones that stand there are the same."""
    _check_cases(path, cases)
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_cases(path, cases)
