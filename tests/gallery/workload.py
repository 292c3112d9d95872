"""A gallery's life, step by step, the same every time: what a process writes and what a test expects to find.

Step n is drawn from n and from what the steps before it left. The gallery stays small, about sixty scans, and its log
grows fast: every scan carries a picture of some twenty kilobytes.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sonoseek.core import CaseRecord
from sonoseek.gallery import Gallery, GalleryEntry, encode_picture

DIMENSION = 24
BUNDLE_ID = "tiny-0123456789ab"
MOST = 60
Key = tuple[str, str]
"""(case_id, scan_id)."""
Content = dict[Key, bytes]
"""What is known of each scan → digest of everything that the gallery says of it."""


@dataclass(frozen=True)
class Step:
    """One call of `add` or `remove`."""

    entries: tuple[GalleryEntry, ...] = ()
    whole_cases: bool = False
    gone: tuple[str, ...] = ()

    def run(self, gallery: Gallery) -> None:
        if self.gone:
            gallery.remove(scan_ids=self.gone)
        else:
            gallery.add(self.entries, whole_cases=self.whole_cases)


@dataclass
class Expected:
    """What the first `steps` steps leave: entries by (case_id, scan_id)."""

    steps: int = 0
    entries: dict[Key, GalleryEntry] = field(default_factory=dict)
    content: Content = field(default_factory=dict)

    def next_step(self, *, most: int = 9) -> Step:
        """Adds, updates and removals of 1 to `most` scans; the first step of all adds."""
        rng = np.random.default_rng([7, self.steps])
        there = sorted(self.entries)
        count = int(rng.integers(1, most + 1))
        if there and (len(there) > MOST or rng.random() < 0.2):
            chosen = rng.choice(len(there), min(count + len(there) // 6, len(there)), replace=False)
            return Step(gone=tuple(there[place][1] for place in chosen))
        if there and rng.random() < 0.3:  # one scan in place of a case's two: `whole_cases` removes the other
            cases = sorted({case_id for case_id, _ in there})
            chosen_cases = rng.choice(cases, min(count, len(cases)), replace=False)
            return Step(tuple(_entry(str(case), 0, self.steps) for case in chosen_cases), whole_cases=True)
        first = 2 * self.steps if rng.random() < 0.7 else 2 * int(rng.integers(0, self.steps + 1))  # new, or again
        return Step(tuple(_entry(f"{first + n // 2:06d}", n % 2, self.steps) for n in range(count)))

    def after(self, step: Step) -> "Expected":
        entries = {key: entry for key, entry in self.entries.items() if key[1] not in step.gone}
        if step.whole_cases:
            given = {entry.record.case_id for entry in step.entries}
            entries = {key: entry for key, entry in entries.items() if key[0] not in given}
        entries.update((key_of(entry), entry) for entry in step.entries)
        content = {key: self.content.get(key, b"") if entries[key] is self.entries.get(key) else b"" for key in entries}
        for key, known in content.items():
            content[key] = known or describe(entries[key])
        return Expected(self.steps + 1, entries, content)


@dataclass(frozen=True)
class Difference:
    """How what was found differs from the nearest of the states that it may be."""

    lost: int = 0
    doubled: int = 0
    other: int = 0

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.other)


def compare(found: Iterable[GalleryEntry], wanted: Expected) -> Difference:
    """Scans that are missing, are there twice, or should not be there or be otherwise."""
    entries = list(found)
    tally = Counter(key_of(entry) for entry in entries)
    there = {key_of(entry): describe(entry) for entry in entries}
    return Difference(
        lost=len(wanted.content.keys() - there.keys()),
        doubled=sum(tally.values()) - len(tally),
        other=sum(
            wanted.content.get(key) not in (known, None) or key not in wanted.content for key, known in there.items()
        ),
    )


def states(steps: int, *, most: int = 9) -> Iterator[Expected]:
    """The states after 0, 1, … `steps` steps."""
    state = Expected()
    yield state
    for _ in range(steps):
        state = state.after(state.next_step(most=most))
        yield state


def key_of(entry: GalleryEntry) -> Key:
    return entry.record.case_id, entry.scan_id


def describe(entry: GalleryEntry) -> bytes:
    """Digest of all that an entry says."""
    record = (entry.record.case_id, entry.record.pathology, entry.record.group, entry.fingerprint, entry.source)
    digest = hashlib.blake2b(repr((record, entry.scan_id, entry.scan_shape)).encode())
    digest.update(entry.picture or b"")
    digest.update(entry.embedding.astype("<f4").tobytes())
    return digest.digest()


def _entry(case_id: str, place: int, step: int) -> GalleryEntry:
    number = 2 * int(case_id) + place
    rng = np.random.default_rng([number, step])
    return GalleryEntry(
        record=CaseRecord(case_id=case_id, dataset="d", pathology="benign", group=f"g{int(case_id) // 2}"),
        scan_id=f"{number:064x}",
        embedding=rng.integers(-512, 513, DIMENSION).astype(np.float32) + np.float32(0.5),  # what float16 holds exactly
        picture=_pictures()[(number + step) % len(_pictures())],
        scan_shape=(24, 32),
        source=f"scan {number}.png",
        fingerprint=f"step {step}",
    )


@functools.cache
def _pictures() -> tuple[bytes, ...]:
    rng = np.random.default_rng(0)
    return tuple(encode_picture(rng.integers(0, 256, (140, 170), np.uint8)) for _ in range(7))
