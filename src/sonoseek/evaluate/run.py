"""Walk a protocol: per fold, a gallery of the training cases, then every test scan through the engine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sonoseek.core import CaseRecord, SplitError
from sonoseek.datasets import Dataset, Subset
from sonoseek.datasets.splits import Fold, check_split
from sonoseek.encoder import Bundle, Encoder, open_encoder
from sonoseek.engine import SearchEngine
from sonoseek.evaluate.metrics import classification_figures, majority_vote, precision_at_k
from sonoseek.evaluate.protocols import Protocol
from sonoseek.evaluate.results import ProtocolResults
from sonoseek.gallery import create_gallery
from sonoseek.ingest import build_index

K = 5
"""Hits per query."""


def run_protocol(
    protocol: Protocol, *, data_root: Path, runs: Path, on_progress: Callable[[int, int], None] | None = None
) -> ProtocolResults:
    """Score one bundle per fold on the cases that it has not seen.

    Args:
        protocol: which cases, which folds.
        data_root: folder that holds the datasets.
        runs: folder with fold-0/bundle, fold-1/bundle … as training writes them.
        on_progress: (queries done, queries in all).

    Raises:
        SplitError: a fold parts a group, or a bundle has seen a case of its test fold.
        BundleError: a bundle is missing or damaged.
    """
    dataset = protocol.dataset(data_root)
    records = {record.case_id: record for record in dataset.records()}
    folds = protocol.folds(dataset)
    total = sum(len(fold.test) for fold in folds)
    done = 0
    scores: list[dict[str, float]] = []
    bundle_ids: list[str] = []
    for number, fold in enumerate(folds):
        check_split(tuple(records.values()), fold)
        encoder = open_encoder(runs / f"fold-{number}" / "bundle")
        check_unseen(encoder.bundle, dataset.name, fold)

        def advance(queries: int, base: int = done) -> None:
            if on_progress is not None:
                on_progress(base + queries, total)

        train, test = ([records[case_id] for case_id in part] for part in (fold.train, fold.test))
        scores.append(_run_fold(encoder, dataset, train=train, test=test, on_query=advance))
        bundle_ids.append(encoder.bundle.bundle_id)
        done += len(fold.test)
    return ProtocolResults(
        protocol=protocol.name,
        description=protocol.description,
        exclusions=protocol.exclusions,
        folds=tuple(scores),
        bundle_ids=tuple(bundle_ids),
    )


def check_unseen(bundle: Bundle, dataset: str, fold: Fold) -> None:
    """Refuse a bundle that was trained on a case of the test fold, or does not say what it was trained on.

    Raises:
        SplitError: with the number of cases, one of them, and the remedy.
    """
    seen = bundle.training.get("cases", {})
    if dataset not in seen:
        raise SplitError(
            f"bundle {bundle.bundle_id} does not list the {dataset!r} cases that it was trained on; "
            "figures from it prove nothing. Train one bundle per fold with `sonoseek train RECIPE --folds all`."
        )
    if crossing := sorted(set(seen[dataset]) & set(fold.test)):
        raise SplitError(
            f"bundle {bundle.bundle_id} was trained on {len(crossing)} cases of the test fold ({crossing[0]!r}); "
            "it must have seen none. Train one bundle per fold with `sonoseek train RECIPE --folds all`."
        )


def _run_fold(
    encoder: Encoder,
    dataset: Dataset,
    *,
    train: Sequence[CaseRecord],
    test: Sequence[CaseRecord],
    on_query: Callable[[int], None],
) -> dict[str, float]:
    bundle = encoder.bundle
    with (
        tempfile.TemporaryDirectory(prefix="sonoseek-evaluate-") as scratch,
        create_gallery(
            Path(scratch) / "gallery", bundle_id=bundle.bundle_id, dimension=bundle.embedding_dim
        ) as gallery,
    ):
        build_index(Subset(dataset, [record.case_id for record in train]), gallery, encoder)
        return _score(SearchEngine(encoder, gallery), dataset, test, on_query=on_query)


def _score(
    engine: SearchEngine, dataset: Dataset, records: Sequence[CaseRecord], *, on_query: Callable[[int], None]
) -> dict[str, float]:
    classes = engine.encoder.bundle.classes
    labels, probabilities, hits, said = [], [], [], []
    for number, record in enumerate(records, start=1):
        report = engine.query(dataset.load(record.case_id, masks=False).scans[0], k=K)
        labels.append(record.pathology)
        probabilities.append([report.prediction.probabilities[name] for name in classes])
        hits.append([match.label for match in report.matches])
        said.append(report.prediction.label)
        on_query(number)
    relevant = np.array([[hit == label for hit in row] for row, label in zip(hits, labels, strict=True)])
    figures = classification_figures(labels, np.array(probabilities), classes=classes)
    figures[f"precision@{K}"] = precision_at_k(relevant, k=K)
    figures[f"majority_vote@{K}"] = float(np.mean([a == b for a, b in zip(majority_vote(hits), labels, strict=True)]))
    sure = [(a, b) for a, b in zip(said, labels, strict=True) if a is not None]
    figures["abstained"] = 1.0 - len(sure) / len(labels)
    figures["accuracy_when_sure"] = float(np.mean([a == b for a, b in sure])) if sure else float("nan")
    return figures
