"""A protocol opened: its datasets, its guarded rounds, its scans, and their groups."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sonoseek.core import CaseRecord, InvalidValueError, SonoseekError, require_extra
from sonoseek.datasets import Dataset
from sonoseek.evaluate.leakage import GroupNumbers, check_round, leaking_share, number_groups, without_near_duplicates
from sonoseek.evaluate.near_duplicates import near_duplicates
from sonoseek.evaluate.protocols.base import CaseSet, Key, Protocol, Round, all_true_records, classes_of, keys
from sonoseek.evaluate.rows import CaseRow
from sonoseek.evaluate.systems.base import LabelledScan

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class SeenInTraining:
    """How many test scans a bundle has learnt from.

    Attributes:
        bundle: its bundle_id, or those of the rounds with commas between.
        scans: on the test sides before any was dropped.
        dropped: scans that were dropped.
        related: of those dropped, scans that are not in the training data themselves, but share patient, group or case
            with one.
        exact: of those dropped, scans that were learnt from pixel for pixel, or under the same name of a published
            dataset.
    """

    bundle: str
    scans: int
    dropped: int
    related: int
    exact: int


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkContext:
    """What every system of a protocol is scored on.

    Attributes:
        protocol: its name, rules and words.
        datasets: name → dataset.
        rounds: guarded; near-duplicates of test scans are off the training sides where the protocol drops them.
        dropped: round label → cases that were taken off its training side.
        leaking: round label → share of test cases with a copy on the training side; 0 under a guarded protocol.
        groups: number of each case's group, the hidden ones included.
        refused: "dataset/case_id" → why its scan could not be read.
        seen: what `evaluate.seen.without_seen` dropped; None: nothing was looked for.
    """

    protocol: Protocol
    datasets: Mapping[str, Dataset]
    rounds: tuple[Round, ...]
    dropped: Mapping[str, int]
    leaking: Mapping[str, float]
    groups: GroupNumbers
    refused: dict[str, str] = field(default_factory=dict)
    seen: SeenInTraining | None = None
    _known: dict[Key, list[LabelledScan]] = field(default_factory=dict, repr=False)
    _listed: dict[str, dict[str, CaseRecord]] = field(default_factory=dict, repr=False)

    def samples(self, side: CaseSet) -> list[LabelledScan]:
        """The scans of a side, read once; a case that cannot be read is left out and listed in `refused`."""
        samples: list[LabelledScan] = []
        for name, ids in side.items():
            records = self._records(name)
            for case_id in ids:
                key = (name, case_id)
                if key not in self._known:
                    self._known[key] = self._read(name, records[case_id])
                samples += self._known[key]
        return samples

    def classes(self, side: CaseSet) -> tuple[str, ...]:
        """Pathologies on a side, in the order of `PATHOLOGIES`."""
        return classes_of(self._records(name)[case_id] for name, case_id in keys(side))

    def name_of(self, key: Key) -> str:
        """How a case is called in the files: its dataset stands before it where there are several."""
        return key[1] if len(self.datasets) == 1 else f"{key[0]}/{key[1]}"

    def group_number_of(self, samples: Sequence[LabelledScan]) -> dict[str, int]:
        """Scan name → number of its tie."""
        return {s.name: self.groups[s.record.dataset, s.record.case_id] for s in samples}

    def group_of(self, samples: Sequence[LabelledScan]) -> dict[str, str]:
        """Scan name → name of its group, as in `cases.csv.bz2`."""
        names = self._group_names()
        return {s.name: names[self.groups[s.record.dataset, s.record.case_id]] for s in samples}

    def cases(self, rounds: Sequence[Round]) -> list[CaseRow]:
        """Every scan that is tested or may be found in these rounds."""
        tested = {key for r in rounds for key in keys(r.test)}
        true, group = all_true_records(self.datasets), self._group_names()
        rows = []
        for key in _all_keys(rounds):
            for sample in self.samples({key[0]: (key[1],)}):
                record = true[key]
                rows.append(
                    CaseRow(
                        scan=sample.name,
                        dataset=key[0],
                        group=group[self.groups[key]],
                        patient=record.patient_id or "",
                        label=record.pathology,
                        birads=record.birads or "",
                        device=record.device or "",
                        tested=key in tested,
                    )
                )
        return rows

    def data_hash(self, rounds: Sequence[Round]) -> str:
        """16 hex digits over names and pixels of every scan of these rounds."""
        digest = hashlib.sha256()
        for key in _all_keys(rounds):
            for sample in self.samples({key[0]: (key[1],)}):
                digest.update(f"{key[0]}\0{sample.name}\0{sample.record.pathology}\0{sample.scan.scan_id}\n".encode())
        return digest.hexdigest()[:16]

    def _records(self, name: str) -> dict[str, CaseRecord]:
        if name not in self._listed:
            self._listed[name] = {record.case_id: record for record in self.datasets[name].records()}
        return self._listed[name]

    def _group_names(self) -> dict[int, str]:
        """Tie → the name of its first group or patient, else of its only case."""
        names: dict[int, str] = {}
        for key, record in sorted(all_true_records(self.datasets).items()):
            names.setdefault(self.groups[key], record.group or record.patient_id or self.name_of(key))
        return names

    def _read(self, name: str, record: CaseRecord) -> list[LabelledScan]:
        try:
            case = self.datasets[name].load(record.case_id, masks=False)
        except (SonoseekError, OSError) as error:
            self.refused[f"{name}/{record.case_id}"] = str(error)
            return []
        base = self.name_of((name, record.case_id))
        record = replace(record, dataset=name)
        return [
            LabelledScan(name=base if i == 0 else f"{base} #{i + 1}", record=record, scan=scan)
            for i, scan in enumerate(case.scans)
        ]


def _all_keys(rounds: Sequence[Round]) -> list[Key]:
    return sorted({key for r in rounds for side in (r.train, r.validation, r.test) for key in keys(side)})


def open_context(
    protocol: Protocol,
    *,
    data_root: Path | None,
    cache: Path,
    seeds: Sequence[int] | None = None,
    narrow: Callable[[BenchmarkContext], BenchmarkContext] | None = None,
    on_progress: Progress | None = None,
) -> BenchmarkContext:
    """Open a protocol's datasets and hold its rounds to its rules, before anything is learnt.

    Args:
        protocol: which.
        data_root: folder that holds the datasets.
        cache: folder for the findings of the comparison of all scans.
        seeds: only these of its seeds; None: all.
        narrow: takes cases off the test sides, such as `evaluate.seen.without_seen`, before the scans are compared.
        on_progress: of that comparison, which is done once per data.

    Raises:
        MissingExtraError: a package of the extra `evaluate` is not installed; nothing was read.
        SplitError: a group, a patient or a near-duplicate crosses in a guarded protocol.
        InvalidValueError: none of `seeds` is the protocol's.
        DatasetError: a dataset is not there.
    """
    require_extra("evaluate")
    datasets = protocol.open(data_root)
    groups = number_groups(datasets)
    rounds = protocol.rounds(datasets)
    known = sorted({r.seed for r in rounds})
    if seeds is not None:
        rounds = tuple(r for r in rounds if r.seed in set(seeds))
    if not rounds:
        raise InvalidValueError(f"seeds are {list(seeds or ())}; {protocol.name} has {known}. Take some of them.")
    context = BenchmarkContext(
        protocol=protocol, datasets=datasets, rounds=rounds, dropped={}, leaking={}, groups=groups
    )
    if narrow is not None:
        context = narrow(context)
    pairs = near_duplicates(datasets, cache=cache, on_progress=on_progress) if protocol.guarded else ()
    guarded, dropped, leaking = [], {}, {}
    for round_ in context.rounds:
        checked, gone = without_near_duplicates(round_, pairs) if protocol.drops_near_duplicates else (round_, ())
        if protocol.guarded:
            check_round(checked, datasets=datasets, groups=groups, pairs=pairs)
        guarded.append(checked)
        dropped[checked.label] = len(gone)
        leaking[checked.label] = leaking_share(checked, groups=groups)
    return replace(context, rounds=tuple(guarded), dropped=dropped, leaking=leaking)
