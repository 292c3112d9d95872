"""Matches and similar cases against a second implementation: plain loops over all entries, sorted by cosine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_encoder import FakeEncoder, draw_scan
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, CaseRecord, Report, Scan
from sonoseek.engine import SearchEngine
from sonoseek.engine.similar import COUNTED
from sonoseek.gallery import Gallery, GalleryEntry, create_gallery, encode_picture
from sonoseek.gallery.values import Index

SCANS = 200
WORLDS = [(0, "exact"), (1, "ivf")]
Passes = Callable[[GalleryEntry], bool]
FILTERS: dict[str, Passes] = {
    "label = 'malignant'": lambda entry: entry.record.pathology == "malignant",
    "birads >= '4A'": lambda entry: entry.record.birads in ("4A", "5"),
    "patient is null": lambda entry: entry.record.patient_id is None,
    "view = 'l' or label != 'benign'": lambda entry: entry.view == "l" or entry.record.pathology != "benign",
    "dataset = 'nowhere'": lambda _: False,
}


class World:
    """An engine over random entries round a scan's embedding, with random patients, groups, cases and copies."""

    def __init__(self, folder: Path, encoder, scan: Scan, *, seed: int, index: Index) -> None:
        encoder._bundle = replace(encoder.bundle, duplicate_threshold=0.995)
        self.rng = np.random.default_rng(seed)
        self.scan = scan
        self.centre = SearchEngine(encoder).read(scan).embedding
        self.entries = self._entries()
        self.gallery: Gallery = create_gallery(
            folder,
            bundle_id=encoder.bundle.bundle_id,
            dimension=len(self.centre),
            duplicate_threshold=0.995,
            index=index,
        )
        self.gallery.add(self.entries)
        self.entries = list(self.gallery)  # as they are kept, in half precision
        self.engine = SearchEngine(encoder, self.gallery)

    def _entries(self) -> list[GalleryEntry]:
        rng, found = self.rng, []
        records: dict[str, CaseRecord] = {}
        for number in range(SCANS):
            case_id = f"c{rng.integers(SCANS)}"  # some cases hold several scans
            if case_id not in records:
                records[case_id] = CaseRecord(
                    case_id=case_id,
                    dataset=("here", "there")[len(records) % 2],
                    pathology=PATHOLOGIES[rng.choice(3, p=(0.1, 0.5, 0.4))],
                    patient_id=f"p{rng.integers(40)}" if rng.random() < 0.6 else None,
                    group=f"g{rng.integers(30)}" if rng.random() < 0.4 else None,
                    birads=("2", "3", "4A", "5", None)[rng.integers(5)],
                )
            if found and rng.random() < 0.35:  # nearly the same as an earlier one
                embedding = found[rng.integers(len(found))].embedding + rng.normal(scale=0.006, size=len(self.centre))
            else:
                embedding = self.centre / np.linalg.norm(self.centre) + rng.normal(scale=0.12, size=len(self.centre))
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
            shown = self.scan if number == 7 else Scan(pixels=pixels)
            found.append(
                GalleryEntry(
                    record=records[case_id],
                    scan_id=shown.scan_id,
                    embedding=np.asarray(embedding, np.float32),
                    picture=encode_picture(shown.pixels),
                    scan_shape=shown.shape,
                    spacing_mm=None,
                    laterality=None,
                    view=("l", "r", None)[number % 3],
                    source=f"{number}.png",
                    fingerprint="",
                )
            )
        return found


def names(entry: GalleryEntry) -> set[tuple[str, str, str]]:
    """What two scans of one patient, group or case share one of."""
    record = entry.record
    named = {("case", record.dataset, record.case_id)}
    named |= {("patient", record.dataset, record.patient_id)} if record.patient_id is not None else set()
    return named | ({("group", record.dataset, record.group)} if record.group is not None else set())


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def independent(
    entries: Sequence[GalleryEntry], query: NDArray[np.float64], *, k: int, per_patient: bool, same: float | None
) -> list[list[GalleryEntry]]:
    """The `k` best, each with what stands behind it: those that share a name with it, or with one that does, or copies.

    The rule of `sonoseek.gallery.deduplicate`, in float64 and without fetching, ties or counting in steps.
    """

    vector = {id(entry): entry.embedding.astype(np.float64) for entry in entries}
    best_first = sorted(entries, key=lambda entry: -cosine(vector[id(entry)], query))
    families: list[list[GalleryEntry]] = []
    first_of: dict[tuple[str, str, str], int] = {}
    originals: list[tuple[GalleryEntry, list[GalleryEntry]]] = []
    for entry in best_first:
        family = None
        if per_patient:
            known = [first_of[name] for name in names(entry) if name in first_of]
            family = families[min(known)] if known else None
        if family is None and same is not None:
            near = [(cosine(vector[id(entry)], vector[id(one)]), at) for at, (one, _) in enumerate(originals)]
            if near and max(near)[0] >= same:
                family = originals[max(near)[1]][1]
        if family is None:
            if len(families) == k:
                break
            family = []
            families.append(family)
        copy = bool(family) and _near(entry, family[0], vector, same)
        family.append(entry)
        for name in names(entry):
            first_of.setdefault(name, families.index(family))
        if not copy:
            originals.append((entry, family))
    return families


def _near(entry, first, vector, same) -> bool:
    group = entry.record.group
    tied = group is not None and group == first.record.group and entry.record.dataset == first.record.dataset
    tied = tied and entry.record.patient_id is None and first.record.patient_id is None
    return tied or (same is not None and cosine(vector[id(entry)], vector[id(first)]) >= same)


def answering(world: World, *, include_same: bool, disliked: Sequence[GalleryEntry]) -> list[GalleryEntry]:
    """All entries but the scan itself, its patient and group, and the disliked scans."""
    gone = {entry.scan_id for entry in disliked}
    own = [entry for entry in world.entries if entry.scan_id == world.scan.scan_id]
    kin: set[tuple[str, str, str]] = set()
    if not include_same:
        gone |= {world.scan.scan_id}
        kin = {name for entry in own for name in names(entry) if name[0] != "case"}
    return [entry for entry in world.entries if entry.scan_id not in gone and not names(entry) & kin]


def query_vector(world: World, liked: Sequence[GalleryEntry], disliked: Sequence[GalleryEntry]) -> NDArray[np.float64]:
    from sonoseek.engine.query_vector import DISLIKED, LIKED

    total = world.centre.astype(np.float64)
    total = total / np.linalg.norm(total)
    for weight, examples in ((LIKED, liked), (-DISLIKED, disliked)):
        if examples:
            unit = [entry.embedding.astype(np.float64) for entry in examples]
            total = total + weight * np.mean([each / np.linalg.norm(each) for each in unit], axis=0)
    return total


def check(world: World, report: Report, *, options: dict, passes: Passes | None) -> None:
    liked, disliked = options["liked"], options["disliked"]
    query = query_vector(world, liked, disliked)
    may_answer = answering(world, include_same=options["include_same"], disliked=disliked)
    same = 0.995
    listed = independent(
        [entry for entry in may_answer if passes is None or passes(entry)],
        query,
        k=options["k"],
        per_patient=options["per_patient"],
        same=same if options["deduplicate"] else None,
    )
    assert [match.scan_id for match in report.matches] == [family[0].scan_id for family in listed]
    if options["per_patient"] or options["deduplicate"]:
        assert [m.near_duplicates + m.same_patient for m in report.matches] == [len(f) - 1 for f in listed]
    # Counted are the cases nearest the whole scan, whatever moves, filters or lengthens the list.
    counted = min(options["k"], COUNTED)
    centre = world.centre.astype(np.float64)
    others = answering(world, include_same=False, disliked=[])
    nearest = [family[0] for family in independent(others, centre, k=counted, per_patient=True, same=same)]
    copies = {owner(entry) for entry in nearest if cosine(entry.embedding.astype(np.float64), centre) >= same}
    labels = Counter(entry.record.pathology for entry in nearest if owner(entry) not in copies)
    assert dict(report.similar_cases.labels) == labels
    if passes is None:
        assert report.hidden is None
    else:  # a case of which the filter shows another scan is not hidden
        passing = [entry for entry in may_answer if passes(entry)]
        wanted = options["k"] if options["per_patient"] and options["deduplicate"] else counted
        shown = {owner(family[0]) for family in independent(passing, query, k=wanted, per_patient=True, same=same)}
        if liked or disliked:
            nearest = [family[0] for family in independent(may_answer, query, k=counted, per_patient=True, same=same)]
        hidden = [entry for entry in nearest if owner(entry) not in shown | copies]
        assert dict(report.hidden.labels) == Counter(entry.record.pathology for entry in hidden)
        assert not any(passes(entry) for entry in hidden)


def owner(entry: GalleryEntry) -> tuple[str, str]:
    record = entry.record
    return record.dataset, record.patient_id or record.group or record.case_id


@pytest.fixture(scope="module", params=WORLDS, ids=lambda made: made[1])
def world(request, tmp_path_factory) -> World:
    folder = tmp_path_factory.mktemp("independent") / "gallery"
    seed, index = request.param
    made = World(folder, FakeEncoder(), draw_scan(seed), seed=seed, index=index)
    yield made
    made.gallery.close()


@pytest.mark.parametrize("number", range(25))
def test_reports_count_as_plain_loops_do(world: World, number: int) -> None:
    rng = np.random.default_rng(number)
    picked = [world.entries[at] for at in rng.choice(SCANS, 4, replace=False)]
    options = {
        "k": int(rng.choice([1, 3, 10, 10, 40, 300])),
        "include_same": bool(rng.random() < 0.3),
        "per_patient": bool(rng.random() < 0.7),
        "deduplicate": bool(rng.random() < 0.7),
        "liked": picked[:2] if rng.random() < 0.3 else [],
        "disliked": picked[2:] if rng.random() < 0.3 else [],
    }
    where = None if rng.random() < 0.4 else str(rng.choice(list(FILTERS)))
    asked = {**options, "liked": [e.scan_id for e in options["liked"]]}
    asked["disliked"] = [e.scan_id for e in options["disliked"]]
    report = world.engine.query(world.scan, where=where, explain_matches=False, **asked)
    check(world, report, options=options, passes=None if where is None else FILTERS[where])
