"""What a phantom will show, drawn from its seed alone: no pixel is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np

from sonoseek.core import DESCRIPTORS, PATHOLOGIES, CaseRecord, InvalidValueError
from sonoseek.datasets.phantom.scanners import SHARES, Scanner, get_scanner

NAME = "phantom"
VERSION = "3"
"""Raised whenever the same seed would give other pixels or other metadata: it is part of every fingerprint."""
LICENCE = "CC0-1.0"
CLASS_SHARES: Mapping[str, float] = {"normal": 0.17, "benign": 0.56, "malignant": 0.27}
"""Near BUSI's 133 : 437 : 210."""

_KINDS: Mapping[str, Mapping[str, float]] = {
    "normal": {"none": 1.0},
    "benign": {
        "fibroadenoma": 0.46,
        "cyst": 0.20,
        "complicated cyst": 0.09,
        "adenosis": 0.09,
        "papilloma": 0.06,
        "lipoma": 0.05,
        "phyllodes": 0.05,
    },
    "malignant": {"ductal": 0.68, "lobular": 0.11, "in situ": 0.09, "mucinous": 0.06, "medullary": 0.06},
}
_HISTOLOGY: Mapping[str, str | None] = {
    "none": None,
    "fibroadenoma": "fibroadenoma",
    "cyst": "simple cyst",
    "complicated cyst": "complicated cyst",
    "adenosis": "sclerosing adenosis",
    "papilloma": "intraductal papilloma",
    "lipoma": "lipoma",
    "phyllodes": "benign phyllodes tumour",
    "ductal": "invasive carcinoma of no special type",
    "lobular": "invasive lobular carcinoma",
    "in situ": "ductal carcinoma in situ",
    "mucinous": "mucinous carcinoma",
    "medullary": "carcinoma with medullary features",
}
_BIRADS: Mapping[str, Mapping[str, float]] = {
    "none": {"1": 1.0},
    "cyst": {"2": 1.0},
    "lipoma": {"2": 1.0},
    "complicated cyst": {"2": 0.3, "3": 0.7},
    "fibroadenoma": {"2": 0.15, "3": 0.6, "4A": 0.25},
    "adenosis": {"3": 0.35, "4A": 0.65},
    "papilloma": {"3": 0.2, "4A": 0.8},
    "phyllodes": {"3": 0.25, "4A": 0.75},
    "ductal": {"4B": 0.15, "4C": 0.35, "5": 0.5},
    "lobular": {"4B": 0.2, "4C": 0.4, "5": 0.4},
    "in situ": {"4B": 0.55, "4C": 0.45},
    "mucinous": {"4B": 0.6, "4C": 0.4},
    "medullary": {"4B": 0.5, "4C": 0.5},
}
_DESCRIBED: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "fibroadenoma": {"shape": "oval", "margin": "circumscribed", "echogenicity": "hypoechoic"},
    "cyst": {"margin": "circumscribed", "echogenicity": "anechoic", "posterior": "enhancement"},
    "complicated cyst": {"margin": "circumscribed", "posterior": "enhancement"},
    "adenosis": {"margin": "indistinct"},
    "papilloma": {"echogenicity": "hypoechoic"},
    "lipoma": {"shape": "oval", "margin": "circumscribed", "orientation": "parallel"},
    "phyllodes": {"shape": "oval", "margin": "circumscribed", "echogenicity": "hypoechoic", "orientation": "parallel"},
    "ductal": {"shape": "irregular", "margin": "spiculated", "posterior": "shadowing"},
    "lobular": {"shape": "irregular", "margin": "spiculated", "posterior": "shadowing"},
    "in situ": {"shape": "irregular", "margin": "indistinct"},
    "mucinous": {},
    "medullary": {"echogenicity": "hypoechoic"},
}
"""What a reader would write of a kind, where every lesion of the kind is drawn so; BI-RADS' words.

Left out where it is not so: cysts may be drawn nearly round, adenosis and mucinous carcinoma as bright as fat, which
BI-RADS compares with.
"""
_SCANS_PER_PATIENT = {"1": 0.55, "2": 0.33, "3": 0.12}
_QUADRANTS = {"UOQ": 0.45, "UIQ": 0.2, "LOQ": 0.17, "LIQ": 0.08, "SA": 0.1}


@dataclass(frozen=True, kw_only=True)
class PhantomPlan:
    """Everything about a phantom that needs no pixels.

    Attributes:
        seed: of the patient: anatomy, diagnosis.
        view: 0-based number of the scan of this patient.
        pathology: normal, benign or malignant.
        kind: of the lesion, in this module's words ("cyst", "ductal", …; "none").
        birads, histology, age_years, acquired: as in `CaseRecord`.
        laterality: the breast.
        quadrant: UOQ, UIQ, LOQ, LIQ or SA (behind the areola).
        scanner: the device.
        depth_mm: its depth setting.
        calipers: 0, 1 or 2 measured lines burned in; drawn without looking at the pathology.
        caption: a text is burned into the scan area; drawn without looking at the pathology.
        scans: how many views this patient has in a `PhantomDataset`.
        forced: end of the case_id that names what the caller forced; empty if nothing.
    """

    seed: int
    view: int
    pathology: str
    kind: str
    birads: str
    histology: str | None
    age_years: float
    acquired: date
    laterality: Literal["left", "right"]
    quadrant: str
    scanner: Scanner
    depth_mm: float
    calipers: int
    caption: bool
    scans: int
    forced: str = ""

    @property
    def case_id(self) -> str:
        """Unique for patient, view and whatever the caller forced."""
        return f"{NAME}-{self.seed:07d}-{self.view}{self.forced}"

    @property
    def patient_id(self) -> str:
        """The patient's pseudonym."""
        return f"{NAME}-patient-{self.seed:07d}"

    def record(self) -> CaseRecord:
        """The case without its pixels."""
        described = _DESCRIBED[self.kind]
        return CaseRecord(
            case_id=self.case_id,
            dataset=NAME,
            pathology=self.pathology,
            patient_id=self.patient_id,
            group=self.patient_id,
            birads=self.birads,
            histology=self.histology,
            device=self.scanner.name,
            age_years=self.age_years,
            acquired=self.acquired,
            licence=LICENCE,
            descriptors=tuple((name, described[name]) for name in DESCRIPTORS if name in described),
        )


def pick(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    """Draw a name by its share; `Generator.choice` takes ten times as long."""
    mark = rng.random() * sum(shares.values())
    for name, share in shares.items():
        mark -= share
        if mark < 0:
            return name
    return next(reversed(list(shares)))


def draw_kind(rng: np.random.Generator, pathology: str) -> str:
    """A lesion's kind by its share within the pathology; "none" for normal."""
    return pick(rng, _KINDS[pathology])


def plan_phantom(seed: int, *, view: int = 0, pathology: str | None = None, scanner: str | None = None) -> PhantomPlan:
    """Draw what the phantom will show.

    The patient's part is drawn from `seed` alone, the view's part from `seed` and `view`; forcing the pathology or the
    scanner changes nothing else that does not follow from it.

    Raises:
        InvalidValueError: negative seed or view, or an unknown pathology.
        NotFoundError: an unknown scanner.
    """
    if seed < 0 or view < 0:
        raise InvalidValueError(f"seed={seed}, view={view}; both must be ≥ 0. Count from zero.")
    if pathology is not None and pathology not in PATHOLOGIES:
        raise InvalidValueError(
            f"pathology is {pathology!r}; it must be one of {', '.join(PATHOLOGIES)}, or None to draw one."
        )
    patient = np.random.default_rng([seed, 1])
    drawn = pick(patient, CLASS_SHARES)
    chosen = drawn if pathology is None else pathology
    kind = draw_kind(patient, chosen)
    device = pick(patient, SHARES)
    laterality: Literal["left", "right"] = "left" if patient.random() < 0.5 else "right"
    age = {"normal": 44.0, "benign": 41.0, "malignant": 57.0}[chosen] + 11.0 * patient.standard_normal()
    scans = int(pick(patient, _SCANS_PER_PATIENT))
    birads = pick(patient, _BIRADS[kind])
    acquired = date(2015, 1, 5) + timedelta(days=int(patient.integers(0, 3600)))
    quadrant = pick(patient, _QUADRANTS)
    scan = np.random.default_rng([seed, 2, view])
    machine = get_scanner(device if scanner is None else scanner)
    return PhantomPlan(
        seed=seed,
        view=view,
        pathology=chosen,
        kind=kind,
        birads=birads,
        histology=_HISTOLOGY[kind],
        age_years=float(round(min(max(age, 18.0), 88.0))),
        acquired=acquired,
        laterality=laterality,
        quadrant=quadrant,
        scanner=machine,
        depth_mm=machine.depths_mm[int(scan.integers(len(machine.depths_mm)))],
        calipers=int(pick(scan, {"0": 0.66, "1": 0.09, "2": 0.25})),
        caption=bool(scan.random() < 0.45),
        scans=scans,
        forced="".join(f"-{word.replace(' ', '_')}" for word in (pathology, scanner) if word is not None),
    )
