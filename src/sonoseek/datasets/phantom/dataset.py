"""An archive of phantoms: the tests' main fixture and the demo's dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from sonoseek.core import PATHOLOGIES, Case, CaseRecord, InvalidValueError, NotFoundError
from sonoseek.datasets.base import DatasetCard
from sonoseek.datasets.phantom.plan import LICENCE, NAME, VERSION, PhantomPlan, plan_phantom
from sonoseek.datasets.phantom.render import render_plan

_SEEDS_APART = 1_000_000
"""Patients of one archive seed; more would overlap with the next seed's."""


class PhantomDataset:
    """Simulated patients with one to three scans each, one case a scan; nothing is stored, cases are made when loaded.

    Attributes:
        name, licence, citation: as in every dataset.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name=NAME,
        title="simulated breast ultrasound",
        licence=LICENCE,
        citation="Simulated by sonoseek's phantom: no patient, no device and no hospital is real.",
        url="",
        classes=PATHOLOGIES,
        note="No patient is real; made on the fly, nothing to download.",
    )
    name, licence, citation = card.name, card.licence, card.citation

    def __init__(self, root: Path | str | None = None, *, count: int = 600, seed: int = 0) -> None:
        """Plan an archive.

        Args:
            root: ignored; every dataset takes one.
            count: number of cases, 1 … 1,000,000.
            seed: ≥ 0; archives of different seeds share no patient.

        Raises:
            InvalidValueError: count or seed out of range.
        """
        del root
        if not 1 <= count <= _SEEDS_APART or seed < 0:
            raise InvalidValueError(
                f"count={count}, seed={seed}; count must lie in 1 … {_SEEDS_APART} and seed must be ≥ 0. Ask for fewer."
            )
        self._plans: dict[str, PhantomPlan] = {}
        patient = seed * _SEEDS_APART
        while len(self._plans) < count:
            first = plan_phantom(patient)
            for view in range(min(first.scans, count - len(self._plans))):
                plan = first if view == 0 else plan_phantom(patient, view=view)
                self._plans[plan.case_id] = plan
            patient += 1

    def __len__(self) -> int:
        return len(self._plans)

    def records(self) -> tuple[CaseRecord, ...]:
        """Every case without its pixels; nothing is rendered."""
        return tuple(plan.record() for plan in self._plans.values())

    def plan(self, case_id: str) -> PhantomPlan:
        """What was drawn for a case: lesion kind, marks, scanner.

        Raises:
            NotFoundError: no such case.
        """
        if case_id not in self._plans:
            raise NotFoundError(
                f"no phantom is called {case_id!r}; this archive holds {len(self._plans)} cases from "
                f"{next(iter(self._plans))!r} on. Take the case_id of one of its records."
            )
        return self._plans[case_id]

    def load(self, case_id: str, *, masks: bool = True) -> Case:
        """Render a case; its mask comes with it unless `masks` is False.

        Raises:
            NotFoundError: no such case.
        """
        case = render_plan(self.plan(case_id))
        return case if masks else replace(case, lesion_masks=())

    def fingerprint(self, case_id: str) -> str:
        """Changes when the same case would get other pixels."""
        return f"{NAME}-{VERSION}:{self.plan(case_id).case_id}"
