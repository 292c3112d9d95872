"""Each of three hospitals once as the one that was never seen: what a new hospital may expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sonoseek.datasets import Dataset, inner_validation, open_dataset
from sonoseek.evaluate.protocols.base import VALIDATION, Round
from sonoseek.evaluate.protocols.busi import folder_of

HOSPITALS = ("busi", "busbra", "bus-uc")
"""Archives, in the order of the rounds: fold i tests the i-th."""
FOLDERS = {"bus-uc": ("bus-uc", "bus_uc")}
"""Names under which an archive's folder is looked for in the data folder, where that is not its own name alone."""


class LeaveOneHospitalOut:
    """BUSI, BUS-BRA and BUS_UC: one is tested on, the others train and validate; three seeds of the validation split.

    Attributes:
        own_archive: True: each test scan is also a query to the other groups and patients of its own hospital.
    """

    name = "leave-one-hospital-out"
    title = "a hospital left out"
    description = (
        "BUSI, BUS-BRA and BUS_UC, each once the hospital that was never seen; what is fitted is fitted in the others."
    )
    exclusions = (
        "near-duplicates of a test scan on the training side; BUS_UC without the nine scans of one lesion that lie "
        "under both labels; BUSI's normal scans are tested, but the other two hospitals have none to learn from"
    )
    guarded = True
    drops_near_duplicates = True
    own_archive = True
    seeds: tuple[int, ...] = (0, 1, 2)

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        """All three under `data_root`; BUS_UC's folder may be called as the owner calls it."""
        return {name: open_dataset(name, _folder(folder_of(data_root), name)) for name in HOSPITALS}

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        """Three per seed; each training hospital gives an eighth of its groups, stratified, to validation."""
        rounds = []
        for seed in self.seeds:
            sides: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
            for name in HOSPITALS:
                records = datasets[name].records()
                inner = inner_validation(records, [r.case_id for r in records], fraction=VALIDATION, seed=seed)
                sides[name] = (inner.train, inner.test)
            for fold, left_out in enumerate(HOSPITALS):
                others = [name for name in HOSPITALS if name != left_out]
                rounds.append(
                    Round(
                        seed=seed,
                        fold=fold,
                        train={name: sides[name][0] for name in others},
                        validation={name: sides[name][1] for name in others},
                        test={left_out: tuple(r.case_id for r in datasets[left_out].records())},
                    )
                )
        return tuple(rounds)


def _folder(root: Path, name: str) -> Path:
    """The first of an archive's usual names that is there, else the archive's own."""
    return next((root / other for other in FOLDERS.get(name, ()) if (root / other).is_dir()), root / name)
