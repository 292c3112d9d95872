"""An archive whose logits, labels and patients are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sonoseek.core import PATHOLOGIES, CaseRecord, Scan
from sonoseek.encoder import Bundle
from sonoseek.evaluate.archive_cases import ArchiveCases
from sonoseek.evaluate.calibrate import softmax
from sonoseek.gallery import GalleryEntry, encode_picture
from sonoseek.preprocessing import PreprocessingRecipe

DIMENSION = 24
POINTS = {
    "sensitivity_98": {"threshold": 0.1, "sensitivity": 0.98, "specificity": 0.5},
    "sensitivity_95": {"threshold": 0.2, "sensitivity": 0.95, "specificity": 0.6},
    "sensitivity_90": {"threshold": 0.3, "sensitivity": 0.9, "specificity": 0.7},
    "specificity_90": {"threshold": 0.6, "sensitivity": 0.7, "specificity": 0.9},
}


def make_bundle(**changed: Any) -> Bundle:
    """A bundle whose logits are the first three numbers of the embedding."""
    facts = {
        "path": Path("made"),
        "name": "made",
        "version": "1",
        "bundle_id": "made-1",
        "classes": PATHOLOGIES,
        "recipe": PreprocessingRecipe(),
        "temperature": 1.0,
        "head_weight": np.eye(3, DIMENSION, dtype=np.float32),
        "head_bias": np.zeros(3, np.float32),
        "abstain_below": 0.5,
        "conformal_quantile": 0.8,
        "operating_points": POINTS,
        "training": {},
        "embedding_dim": DIMENSION,
        "grid": (1, 1),
        "fine_grid": (1, 1),
        "duplicate_threshold": 0.99,
    }
    return Bundle(**{**facts, **changed})


def draw(
    n: int, *, temperature: float = 1.0, bias: tuple[float, ...] = (0.0, 0.0, 0.0), classes: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits float64 (n, 3), and labels drawn from softmax(logits / temperature + bias); the last `classes` occur."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 3))
    scores = logits / temperature + np.array(bias)
    scores[:, : 3 - classes] = -np.inf
    p = softmax(scores)
    return logits, (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(0, 2).astype(np.int64)


def make_cases(n: int, *, per_group: int = 1, **drawn: Any) -> ArchiveCases:
    logits, labels = draw(n, **drawn)
    return ArchiveCases(
        logits=logits,
        labels=labels,
        groups=np.arange(n) // per_group,
        cases=np.arange(n),
        left_out={},
        state="1-aaaaaa",
    )


def make_entries(logits: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> list[GalleryEntry]:
    """One case of a patient of its own per row; embeddings are far apart but for their logits."""
    rng = np.random.default_rng(seed)
    entries = []
    for number, (row, label) in enumerate(zip(logits, labels, strict=True)):
        scan = Scan(pixels=np.random.default_rng([seed, number]).integers(0, 256, (24, 32), np.uint8))
        entries.append(
            GalleryEntry(
                record=CaseRecord(
                    case_id=f"case {number:04d}",
                    dataset="ours",
                    pathology=PATHOLOGIES[label],
                    patient_id=f"p{number}",
                ),
                scan_id=scan.scan_id,
                embedding=np.concatenate([row, rng.normal(0, 3, DIMENSION - 3)]).astype(np.float32),
                picture=encode_picture(scan.pixels),
                scan_shape=scan.shape,
            )
        )
    return entries
