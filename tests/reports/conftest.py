"""Reports to write: ordinary ones, and hostile ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np
import pytest

from sonoseek.core import (
    Contour,
    Explanation,
    LabelCounts,
    Match,
    OperatingPoint,
    Prediction,
    Report,
    ReportWarning,
    Scan,
    SharedDescriptor,
    Upsampling,
)

SHAPE = (120, 160)


def make_explanation(target: str = "malignant", *, method: str = "class_evidence", size: float = 3.0) -> Explanation:
    """A warm spot and a weaker cold one."""
    rows, columns = np.indices(SHAPE)
    warm = np.exp(-(((rows - 50) / 12) ** 2) - ((columns - 90) / 15) ** 2)
    cold = np.exp(-(((rows - 90) / 9) ** 2) - ((columns - 30) / 9) ** 2)
    return on_pixels((warm - 0.3 * cold) / warm.sum() * size, method=method, target=target)


def on_pixels(heatmap: np.ndarray, *, method: str = "class_evidence", target: str = "malignant") -> Explanation:
    """An explanation whose cells are the scan's pixels."""
    cells = heatmap.astype(np.float32)
    eyes = [np.eye(side, dtype=np.float32) for side in cells.shape]
    total = float(cells.sum(dtype=np.float64))
    return Explanation(
        evidence_map=cells,
        upsampling=Upsampling(rows=eyes[0], columns=eyes[1], top=0, left=0, scan_shape=cells.shape),
        method=method,
        target=target,
        value=total - 0.4,
        bias=-0.4,
    )


def make_pair(report: Report, rank: int) -> Report:
    """The same report with the match of this rank explained on both scans."""
    match = report.matches[rank - 1]
    other = on_pixels(np.random.default_rng(rank).random((60, 90)) * 0.0002, method="pair_evidence", target="query:x")
    matches = tuple(replace(m, explanation=other) if m is match else m for m in report.matches)
    own = make_explanation(f"match:{match.scan_id}", method="pair_evidence", size=0.6)
    return replace(report, matches=matches, explanations=(*report.explanations, own))


POINTS = (
    OperatingPoint(name="sensitivity_98", threshold=0.11, sensitivity=0.98, specificity=0.57),
    OperatingPoint(name="sensitivity_95", threshold=0.16, sensitivity=0.95, specificity=0.68),
    OperatingPoint(name="sensitivity_90", threshold=0.20, sensitivity=0.90, specificity=0.72),
    OperatingPoint(name="specificity_90", threshold=0.55, sensitivity=0.70, specificity=0.90),
)
FITTED_ON = "the validation part of busi and busbra: 332 scans, 102 malignant"
CORNERS = np.array([[40, 60], [40, 110], [70, 110], [70, 60]], np.float32)


def make_contour() -> Contour:
    return Contour(
        points=CORNERS,
        area_pixels=1500.0,
        longest_mm=11.7,
        shortest_mm=6.0,
        area_mm2=60.0,
        depth_mm=8.0,
        height_mm=6.0,
        width_mm=10.0,
        level=0.35,
    )


def make_match(rank: int, **changes: Any) -> Match:
    picture = cv2.imencode(".jpg", np.full((60, 90), 20 * rank % 256, np.uint8))[1].tobytes()
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
        "descriptors": ((("margin", "spiculated"), ("shape", "irregular")), ())[rank % 2],
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
            operating_points=POINTS,
            fitted_on=FITTED_ON,
        ),
        "matches": matches,
        "explanations": (make_explanation(),),
        "similar_cases": LabelCounts(labels={"malignant": 2, "benign": 2, "normal": 1} if matches else {}),
        "hidden": None,
        "novelty": 37.5,
        "warnings": (
            ReportWarning(severity="low", code="annotations_removed", text="Burned-in text was painted over."),
        ),
        "bundle_id": "first-0123456789ab",
        "gallery_id": "6a1f",
        "where": "birads >= '3'",
        "shared_descriptors": (
            SharedDescriptor(feature="margin", descriptor="spiculated", matches=2, described=2, share=0.12),
        ),
        "contour": make_contour(),
        "version": "0.1.0",
        "created": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
    }
    return Report(**(values | changes))


@pytest.fixture
def build_report() -> Callable[..., Report]:
    return make_report


@pytest.fixture
def build_pair() -> Callable[[Report, int], Report]:
    return make_pair


@pytest.fixture
def build_on_pixels() -> Callable[..., Explanation]:
    return on_pixels


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
            make_match(
                1,
                case_id=HOSTILE,
                dataset=HOSTILE,
                histology=HOSTILE,
                device=HOSTILE,
                group=HOSTILE,
                descriptors=(("margin", HOSTILE),),
                explanation=make_explanation("query:" + HOSTILE, method="pair_evidence"),
            ),
            make_match(2, label=HOSTILE, picture=b"<svg onload=alert(3)>"),
        ),
        explanations=(
            make_explanation(),
            make_explanation(HOSTILE, method=HOSTILE),
            make_explanation(f"match:{1:064x}", method="pair_evidence"),
        ),
        shared_descriptors=(SharedDescriptor(feature="margin", descriptor=HOSTILE, matches=2, described=2, share=0.5),),
        warnings=(ReportWarning(severity="high", code="disagreement", text=HOSTILE),),
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
        shared_descriptors=(),
        contour=None,
    )
