"""Find the scans that show the same picture, among all pairs of a dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from sonoseek.datasets.audit.alignment import Alignment, align
from sonoseek.datasets.audit.candidates import Pair, candidates
from sonoseek.datasets.audit.features import Fingerprint, chain, inverse
from sonoseek.datasets.audit.grouping import connected
from sonoseek.datasets.audit.result import DuplicatePair, PairKind

MIN_NCC = 0.85
MIN_DETAIL = 0.6
"""A copy agrees in its speckle, a neighbouring frame does not. BUSI's copies lie at 0.74 and above, most above 0.99;
its neighbouring frames at 0.58 and below."""
RESCUED_NCC, RESCUED_DETAIL = 0.3, 0.85
"""A copy whose contrast was remade (CLAHE, time gain) agrees in its speckle, but not in its brightness."""
FRAME_DETAIL = 0.1
"""What only shares a layout (the same words burned in, bright above and dark below) lies under this."""
MIN_OVERLAP = 0.4
WHOLE_GROUP = 40
"""Up to this many copies of one scan every pair is listed; above, each copy with the first."""
BATCH = 64
_IDENTICAL = Alignment(transform=np.eye(2, 3), inliers=0, ncc=1.0, detail=1.0, overlap=1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One scan under audit: whose it is, and what it looks like."""

    case_id: str
    scan: int
    scan_id: str
    fingerprint: Fingerprint


@dataclass(frozen=True, kw_only=True, eq=False)
class _Find:
    kind: Literal["near", "frame"]
    alignment: Alignment
    b: Fingerprint
    """As it was aligned: mirrored or not."""


def find_duplicates(
    subjects: Sequence[Subject], *, executor: Executor, on_progress: Callable[[int, int], None] | None = None
) -> tuple[tuple[DuplicatePair, ...], tuple[DuplicatePair, ...]]:
    """Compare all scans with all.

    Args:
        subjects: in the order of the dataset.
        executor: threads that compare.
        on_progress: called with candidates done and candidates in all.

    Returns:
        Copies ("exact", "near") and neighbouring frames ("frame"), each in falling order of agreement. Scans of one
        case are not compared with each other.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for index, subject in enumerate(subjects):
        copies[subject.scan_id].append(index)
    firsts = [members[0] for members in copies.values()]
    prints = [subjects[index].fingerprint for index in firsts]
    finds = _compare_all(prints, executor=executor, on_progress=on_progress)

    spread = [pair for members in copies.values() for pair in _spread(members)]
    pairs = [_pair(subjects[i], subjects[j], "exact", _IDENTICAL) for i, j in spread]
    related: list[DuplicatePair] = []
    for (i, j), find in finds.items():
        left, right = (copies[subjects[firsts[item]].scan_id] for item in (i, j))
        target = pairs if find.kind == "near" else related
        target += [_found(subjects[one], subjects[other], find) for one, other in _across(left, right)]
    return tuple(_ranked(pairs)), tuple(_ranked(related))


def _compare_all(
    prints: Sequence[Fingerprint], *, executor: Executor, on_progress: Callable[[int, int], None] | None
) -> dict[Pair, _Find]:
    """(i, j) → what was found of that pair."""
    straight, mirrored = candidates(prints)
    total = len(straight) + len(mirrored)
    done = 0
    finds: dict[Pair, _Find] = {}
    for flip, wanted in ((False, straight), (True, mirrored)):
        for start in range(0, len(wanted), BATCH * 8):
            part = [pair for pair in wanted[start : start + BATCH * 8] if pair not in finds]
            finds.update(_compare(prints, part, flip=flip, executor=executor))
            done = min(done + BATCH * 8, len(straight) if not flip else total)
            if on_progress is not None:
                on_progress(done, total)
    # A scan with many copies has more of them than neighbours that were compared: close the groups.
    near = [pair for pair, find in finds.items() if find.kind == "near"]
    tried = set(straight)
    for group in connected(len(prints), near):
        if len(group) <= WHOLE_GROUP:
            missing = [pair for pair in combinations(group, 2) if pair not in tried]
            finds.update(_compare(prints, missing, flip=False, executor=executor))
    return finds


def _compare(
    prints: Sequence[Fingerprint], wanted: Sequence[Pair], *, flip: bool, executor: Executor
) -> Iterator[tuple[Pair, _Find]]:
    def batch(pairs: Sequence[Pair]) -> list[tuple[Pair, _Find]]:
        found = []
        for i, j in pairs:
            b = prints[j].mirrored() if flip else prints[j]
            alignment = align(prints[i], b)
            kind = None if alignment is None else judge(alignment)
            if alignment is not None and kind is not None:
                found.append(((i, j), _Find(kind=kind, alignment=alignment, b=b)))
        return found

    batches = [wanted[start : start + BATCH] for start in range(0, len(wanted), BATCH)]
    for found in executor.map(batch, batches):
        yield from found


def judge(alignment: Alignment) -> Literal["near", "frame"] | None:
    """What an alignment shows: the same picture, a neighbouring frame, or nothing."""
    if alignment.overlap < MIN_OVERLAP:
        return None
    if alignment.ncc >= MIN_NCC and alignment.detail >= MIN_DETAIL:
        return "near"
    if alignment.ncc >= RESCUED_NCC and alignment.detail >= RESCUED_DETAIL:
        return "near"
    if alignment.ncc >= MIN_NCC and alignment.detail >= FRAME_DETAIL:
        return "frame"
    return None


def _spread(members: Sequence[int]) -> Iterable[Pair]:
    """Pairs that hold a set together: all, or a star where there would be too many."""
    return combinations(members, 2) if len(members) <= WHOLE_GROUP else ((members[0], other) for other in members[1:])


def _across(left: Sequence[int], right: Sequence[int]) -> Iterator[Pair]:
    """Pairs between two sets of exact copies, ordered within; between the first ones only where there are too many."""
    if len(left) * len(right) > WHOLE_GROUP:
        left, right = left[:1], right[:1]
    for one in left:
        for other in right:
            yield min(one, other), max(one, other)


def _found(a: Subject, b: Subject, find: _Find) -> DuplicatePair:
    transform = chain(a.fingerprint.to_scan, chain(find.alignment.transform, inverse(find.b.to_scan)))
    return _pair(a, b, find.kind, replace(find.alignment, transform=transform))


def _pair(a: Subject, b: Subject, kind: PairKind, alignment: Alignment) -> DuplicatePair:
    return DuplicatePair(a=a.case_id, b=b.case_id, scan_a=a.scan, scan_b=b.scan, kind=kind, **vars(alignment))


def _ranked(pairs: Iterable[DuplicatePair]) -> list[DuplicatePair]:
    apart = (pair for pair in pairs if pair.a != pair.b)
    return sorted(apart, key=lambda pair: (pair.kind != "exact", -pair.detail, -pair.ncc, pair.a, pair.b))
