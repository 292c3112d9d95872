"""Every file of a folder queried, one row each; scored where the folders are named for the reference standard."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.batch.files import check_inside, scan_names
from sonoseek.batch.job import Job, Row
from sonoseek.batch.store import JobStore
from sonoseek.core import (
    PATHOLOGIES,
    GalleryError,
    InvalidValueError,
    Report,
    SearchOptions,
    SonoseekError,
    TemporaryError,
)
from sonoseek.engine import SearchEngine
from sonoseek.evaluate.bootstrap import group_weights, share_interval
from sonoseek.evaluate.metrics import accuracy, auroc
from sonoseek.io import read_scan
from sonoseek.reports import phrases

MASK = re.compile(r"_mask(_\d+)?$")
MAX_SEEN = 0.5
"""Share of labelled scans in the training data above which no metric is given."""
OPTIONS = ("k", "where", "per_patient", "deduplicate")
"""Fields of `SearchOptions` that a job may set."""


def query_files(
    store: JobStore, job: Job, engine: SearchEngine, *, folder: Path, stopped: Callable[[], bool]
) -> Mapping[str, Any]:
    """Query every file that has no row yet.

    Args:
        store: receives the rows.
        job: of kind "query" or "evaluate".
        engine: answers the queries.
        folder: with the files.
        stopped: called before each file; true ends the job.

    Returns:
        The summary: predictions counted, and scans that were in the training data; of "evaluate" also the metrics of
        `score_rows`.

    Raises:
        InvalidValueError: an "evaluate" job of which no file lies in a folder named for a diagnosis.
        GalleryError, TemporaryError: an error that every other file would meet as well.
    """
    names = without_masks(scan_names(folder))
    if job.kind == "evaluate" and not any(reference_of(name) for name in names):
        raise InvalidValueError(
            f"no file lies in a folder called {', '.join(PATHOLOGIES)}; without a reference standard there is "
            "nothing to score. Sort the scans into such folders, or query them without evaluating."
        )
    store.change(job.job_id, total=len(names))
    finished = {row.name for row in store.every_row(job.job_id)}
    given = {name: job.options[name] for name in OPTIONS if name in job.options}
    options = SearchOptions(explain_matches=False, **given)
    for name in names:
        if name in finished:
            continue
        if stopped():
            break
        outcome, refused = _query(engine, folder / name, options, folder=folder)
        reference = reference_of(name)
        outcome = {**outcome, "reference": reference} if reference else outcome
        store.add_row(job.job_id, name, outcome=outcome, refused=refused)
    return summarise(tuple(store.every_row(job.job_id)), evaluate=job.kind == "evaluate")


def reference_of(name: str) -> str | None:
    """The reference label by a file's folders: the innermost one that has a class's name, or None."""
    for part in reversed(PurePosixPath(name).parts[:-1]):
        if part.lower() in PATHOLOGIES:
            return part.lower()
    return None


def summarise(rows: Sequence[Row], *, evaluate: bool) -> dict[str, Any]:
    """Predictions counted and, for `evaluate`, scored against the reference standard."""
    answered = [row for row in rows if row.refused is None]
    labels = [
        "no prediction" if row.outcome.get("out_of_distribution") else str(row.outcome["label"] or "not sure")
        for row in answered
    ]
    summary: dict[str, Any] = {
        "answered": len(answered),
        "refused": len(rows) - len(answered),
        "predictions": {
            name: labels.count(name) for name in (*PATHOLOGIES, "not sure", "no prediction") if name in labels
        },
        "not_ruled_out": sum(bool(row.outcome.get("not_ruled_out")) for row in answered),
        "seen_in_training": sum(_seen(row) for row in answered),
    }
    return {**summary, **(score_rows(answered) if evaluate else {})}


def score_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Accuracy and AUROC of malignant against the rest, with 95 % intervals by resampling scans.

    Patients are not known here, so the intervals are too narrow by an unknown amount. Scans of the training data are
    left out; where more than half are, no metric is given, and "no_figures" says why.
    """
    labelled = [row for row in rows if row.outcome.get("reference")]
    known = [row for row in labelled if not _seen(row)]
    if (seen := len(labelled) - len(known)) > MAX_SEEN * len(labelled):
        return {
            "scored": 0,
            "no_figures": f"{seen} of {len(labelled)} scans with a reference label were in the training data; where "
            "more than half were, no figure is given. Evaluate scans that the bundle has not learnt from.",
        }
    if not known:
        return {"scored": 0}
    truth = np.array([PATHOLOGIES.index(row.outcome["reference"]) for row in known])
    probabilities = np.array([[row.outcome["probabilities"].get(name, 0.0) for name in PATHOLOGIES] for row in known])
    predicted = [row.outcome["label"] or "not sure" for row in known]
    pairs = list(zip((row.outcome["reference"] for row in known), predicted, strict=True))
    confusion = [[pairs.count((one, other)) for other in (*PATHOLOGIES, "not sure")] for one in PATHOLOGIES]
    positive = truth == PATHOLOGIES.index("malignant")
    score = probabilities[:, PATHOLOGIES.index("malignant")]
    rarer = int(min(positive.sum(), (~positive).sum()))
    figures: dict[str, tuple[int, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
        "accuracy": (len(known), lambda weights: accuracy(probabilities, truth, weights)),
        "auroc_malignant": (rarer, lambda weights: auroc(score, positive, weights)),
    }
    summary: dict[str, Any] = {"scored": len(known), "confusion": confusion}
    for name, (count, figure) in figures.items():
        value = float(figure(np.ones((1, len(known))))[0])
        low, high = share_interval(figure(group_weights(len(known))), value=value, groups=count)
        summary[name] = [value, low, high] if np.isfinite([value, low, high]).all() else None
    return summary


def _seen(row: Row) -> bool:
    """Whether a row's scan, or a copy of it, was in the training data."""
    return bool(row.outcome.get("seen_in_training"))


def _query(
    engine: SearchEngine, path: Path, options: SearchOptions, *, folder: Path
) -> tuple[dict[str, Any], str | None]:
    try:
        check_inside(path, folder)
        report = engine.query(read_scan(path), options)
    except (GalleryError, TemporaryError):
        raise  # every other file would fail as well
    except (SonoseekError, OSError) as error:
        return {}, str(error).replace(str(path.parent) + "/", "") or type(error).__name__
    except Exception as error:  # one bad file must not stop the others
        return {}, f"unexpected {type(error).__name__}: {error}"
    return describe(report), None


def describe(report: Report) -> dict[str, Any]:
    """A report as one row of a table."""
    prediction = report.prediction
    likelihood = prediction.likelihood_of_malignancy
    best = report.matches[0] if report.matches else None
    return {
        "scan_id": report.scan_id,
        "label": prediction.label,
        "likeliest": prediction.likeliest,
        "headline": phrases.short_headline(prediction),
        "likelihood_of_malignancy": None if likelihood is None else round(likelihood, 4),
        "not_ruled_out": prediction.not_ruled_out and not prediction.out_of_distribution,
        "out_of_distribution": prediction.out_of_distribution,
        "probabilities": {name: round(value, 4) for name, value in prediction.probabilities.items()},
        "prediction_set": list(prediction.prediction_set),
        "agreement": report.agreement,
        "novelty": report.novelty,
        "match": None
        if best is None
        else {
            "dataset": best.dataset,
            "case_id": best.case_id,
            "scan_id": best.scan_id,
            "label": best.label,
            "similarity": round(best.similarity, 4),
        },
        "calibration": phrases.calibration(prediction.calibration),
        "seen_in_training": any(each.code == "seen_in_training" for each in report.warnings),
        "warnings": [each.text for each in report.warnings],
    }


def without_masks(names: Sequence[str]) -> list[str]:
    """Names less the lesion masks among them, as datasets call them: "x_mask.png" and "x_mask_1.png" beside "x.png"."""
    scans = {PurePosixPath(name).with_suffix("").as_posix() for name in names}
    bare = {name: PurePosixPath(name).with_suffix("").as_posix() for name in names}
    return [name for name in names if bare[name] == (scan := MASK.sub("", bare[name])) or scan not in scans]
