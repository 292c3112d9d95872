"""Reports to write: ordinary ones, and hostile ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np
import pytest

from sonoseek.core import Explanation, Match, Prediction, Report, Scan

SHAPE = (120, 160)


def make_explanation(target: str = "malignant", *, method: str = "class_evidence", size: float = 3.0) -> Explanation:
    """A warm spot and a weaker cold one."""
    rows, columns = np.indices(SHAPE)
    warm = np.exp(-(((rows - 50) / 12) ** 2) - ((columns - 90) / 15) ** 2)
    cold = np.exp(-(((rows - 90) / 9) ** 2) - ((columns - 30) / 9) ** 2)
    heatmap = ((warm - 0.3 * cold) / warm.sum() * size).astype(np.float32)
    cells = cv2.resize(heatmap, (14, 14), interpolation=cv2.INTER_AREA) * np.float32(heatmap.size / 196)
    total = float(heatmap.sum(dtype=np.float64))
    return Explanation(
        heatmap=heatmap, method=method, target=target, explained=total - 0.4, bias=-0.4, cells=np.asarray(cells)
    )


def make_match(rank: int, **changes: Any) -> Match:
    picture = cv2.imencode(".jpg", np.full((60, 90), 20 * rank, np.uint8))[1].tobytes()
    values: dict[str, Any] = {
        "rank": rank,
        "case_id": f"case {rank}",
        "scan_id": f"{rank:064x}",
        "similarity": 1.0 - 0.05 * rank,
        "label": ("malignant", "benign", "normal")[rank % 3],
        "dataset": "archive",
        "birads": ("5", "3", None)[rank % 3],
        "histology": ("invasive ductal carcinoma", None, None)[rank % 3],
        "device": ("GE Logiq 7", None)[rank % 2],
        "patient_id": f"p{rank}",
        "group": None,
        "picture": picture,
    }
    return Match(**(values | changes))


def make_report(**changes: Any) -> Report:
    matches = changes.get("matches", tuple(make_match(rank) for rank in range(1, 6)))
    values: dict[str, Any] = {
        "scan": Scan(
            pixels=np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8), spacing_mm=(0.2, 0.2), source="exam.png"
        ),
        "prediction": Prediction(
            probabilities={"normal": 0.01, "benign": 0.12, "malignant": 0.87},
            label="malignant",
            prediction_set=("malignant",),
            entropy=0.42,
        ),
        "matches": matches,
        "explanations": (make_explanation(),),
        "agreement": 0.2 if matches else None,
        "novelty": 37.5,
        "warnings": ("Burned-in text was painted over.",),
        "bundle_id": "first-0123456789ab",
        "gallery_id": "6a1f",
        "where": "birads >= '3'",
        "version": "0.1.0",
        "created": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
    }
    return Report(**(values | changes))


@pytest.fixture
def build_report() -> Callable[..., Report]:
    return make_report


@pytest.fixture
def build_match() -> Callable[..., Match]:
    return make_match


@pytest.fixture
def build_explanation() -> Callable[..., Explanation]:
    return make_explanation


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J'</style>{{7*7}}\u202e\n&amp;"


@pytest.fixture
def hostile_report() -> Report:
    """Every free text that an archive or a file name can bring is an attack."""
    return make_report(
        scan=Scan(pixels=np.full(SHAPE, 90, np.uint8), source=HOSTILE, patient_id=HOSTILE),
        matches=(
            make_match(1, case_id=HOSTILE, dataset=HOSTILE, histology=HOSTILE, device=HOSTILE, group=HOSTILE),
            make_match(2, label=HOSTILE, picture=b"<svg onload=alert(3)>"),
        ),
        explanations=(make_explanation(), make_explanation(HOSTILE, method=HOSTILE)),
        warnings=(HOSTILE,),
        where=HOSTILE,
        gallery_id=HOSTILE,
        bundle_id=HOSTILE,
    )


@pytest.fixture
def unsure_report() -> Report:
    """Abstained, no gallery, hardly any evidence, no spacing."""
    return make_report(
        scan=Scan(pixels=np.full(SHAPE, 90, np.uint8)),
        prediction=Prediction(
            probabilities={"normal": 0.2, "benign": 0.41, "malignant": 0.39},
            label=None,
            prediction_set=("benign", "malignant"),
            entropy=1.05,
        ),
        matches=(),
        explanations=(make_explanation("benign", size=0.001),),
        novelty=None,
        gallery_id=None,
        where=None,
        warnings=(),
    )
