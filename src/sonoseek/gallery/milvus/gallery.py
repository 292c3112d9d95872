"""The gallery on a Milvus server: for archives that outgrow one machine.

Consistency is strong: every search sees every write that was acknowledged before it, by whichever process; each such
request waits for the server's next clock tick (`proxy.timeTickInterval`, 200 ms by default). A write is acknowledged
once it is in the server's write-ahead log. Milvus has no transaction over several requests: pictures are written first,
then the scans, then what they replace is deleted, so that a server lost in between leaves nothing wrong, and adding the
same again completes it. Search is by HNSW over float32; similarities are worked out again exactly.
"""

from __future__ import annotations

import json
import operator
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import BIRADS_CATEGORIES, BundleMismatchError, ExcludedCounts, GalleryError, InvalidValueError
from sonoseek.core.patients import PatientShare
from sonoseek.core.version import __version__
from sonoseek.gallery.deduplicate import check_duplicate_threshold, lowest_cosine
from sonoseek.gallery.exact import Nearest, normalised
from sonoseek.gallery.filter.milvus import EVERYTHING
from sonoseek.gallery.milvus import rows, search
from sonoseek.gallery.milvus.server import Server, closing_on_error, parse_address
from sonoseek.gallery.milvus.write import remove_rows, write_entries
from sonoseek.gallery.novelty_sample import drawn
from sonoseek.gallery.sqlite.write import prepare_entries
from sonoseek.gallery.values import (
    UNKNOWN,
    AddResult,
    CaseKey,
    Exclusion,
    GalleryEntry,
    GalleryInfo,
    Index,
    Mode,
    RemoveResult,
    SearchResult,
    check_embedding,
    check_embeddings,
)

SCHEMA_VERSION = 2
"""Of the collections; not that of SQLite files."""
_FETCHED = 64
"""Entries that an iteration holds at once."""
GRAPH = {"M": 16, "efConstruction": 200}
"""Of HNSW."""


class MilvusGallery:
    """See `Gallery`."""

    def __init__(self, server: Server, name: str, location: str, *, mode: Mode) -> None:
        """Open it; callers use `open` or `create`."""
        self._server, self._name, self._kept, self._mode = server, name, f"{name}_kept", mode
        self.location = location
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._tallied: dict[str, tuple[int, Any]] = {}
        meta = self._meta()
        try:
            self.gallery_id, self.bundle_id = str(meta["gallery_id"]), str(meta["bundle_id"])
            self.dimension = int(meta["dimension"])
            self.duplicate_threshold: float | None = meta.get("duplicate_threshold")
            schema = meta["schema"]
        except KeyError as error:
            raise GalleryError(
                f"{location} lacks its own description ({error}); it is damaged. Build it anew."
            ) from error
        if schema != SCHEMA_VERSION:
            remedy = "Upgrade sonoseek." if schema > SCHEMA_VERSION else "Build it anew with `sonoseek index build`."
            raise GalleryError(
                f"{location} has schema version {schema}, this sonoseek reads {SCHEMA_VERSION}. {remedy}"
            )

    @classmethod
    def open(cls, location: str | Path, *, mode: Mode = "r", timeout_s: float = 5.0, index: Index = "auto") -> Self:
        """See `open_gallery`."""
        _check_index(index)
        address = parse_address(str(location))
        with closing_on_error(Server(address, timeout_s=max(timeout_s, _SLOWEST_S))) as server:
            server.require(address.name)
            server.require(f"{address.name}_kept")
            return cls(server, address.name, address.shown, mode=mode)

    @classmethod
    def create(
        cls,
        location: str | Path,
        *,
        bundle_id: str,
        dimension: int,
        duplicate_threshold: float | None = None,
        exist_ok: bool = False,
        timeout_s: float = 5.0,
        index: Index = "auto",
    ) -> Self:
        """See `create_gallery`."""
        _check_index(index)
        address = parse_address(str(location))
        if not bundle_id or dimension < 1:
            raise InvalidValueError(
                f"bundle_id={bundle_id!r}, dimension={dimension}; a gallery needs a named bundle and at least one "
                "number per embedding. Pass Bundle.bundle_id and Bundle.embedding_dim."
            )
        check_duplicate_threshold(duplicate_threshold)
        with closing_on_error(Server(address, timeout_s=max(timeout_s, _SLOWEST_S))) as server:
            there = server.exists(address.name)
            if there and not exist_ok:
                raise GalleryError(f"{address.shown} exists already; open it, or choose another name for the gallery.")
            if not there:
                _create_collections(server, address.name, dimension)
                meta = {
                    "schema": SCHEMA_VERSION,
                    "gallery_id": str(uuid4()),
                    "bundle_id": bundle_id,
                    "dimension": dimension,
                    "duplicate_threshold": duplicate_threshold,
                    "created": datetime.now(UTC).isoformat(),
                    "sonoseek_version": __version__,
                    "stamp": secrets.randbits(62),
                }
                server.upsert(f"{address.name}_kept", [_meta_row(meta)])
            gallery = cls(server, address.name, address.shown, mode="w")
            if (gallery.bundle_id, gallery.dimension) != (bundle_id, dimension):
                raise BundleMismatchError(
                    f"{address.shown} was filled by bundle {gallery.bundle_id}, dimension {gallery.dimension}; asked "
                    f"for {bundle_id}, {dimension}. Embeddings of two bundles cannot be compared: continue with that "
                    "bundle, or build another gallery."
                )
            return gallery

    # Writing

    def add(self, entries: Iterable[GalleryEntry], *, whole_cases: bool = False) -> AddResult:
        """See `Gallery.add`."""
        self._check_writable()
        prepared = prepare_entries(entries, dimension=self.dimension)
        with self._writing:
            self._advance()  # before as well: a server lost in between must not leave readers trusting their memory
            result = write_entries(self._server, self._name, prepared, whole_cases=whole_cases)
            if result.added or result.updated or result.removed:
                self._advance()
        return result

    def remove(self, *, scan_ids: Iterable[str] = (), cases: Iterable[CaseKey] = ()) -> RemoveResult:
        """See `Gallery.remove`."""
        self._check_writable()
        with self._writing:
            self._advance()
            result = remove_rows(
                self._server, self._name, scan_ids=list(dict.fromkeys(scan_ids)), cases=list(dict.fromkeys(cases))
            )
            if result.removed:
                self._advance()
        return result

    def refresh(self) -> None:
        """See `Gallery.refresh`: the server indexes by itself; the gallery's own distances are worked out."""
        self._own()

    def optimise(self) -> None:
        """See `Gallery.optimise`: segments are sealed, compacted and indexed by the server, in its own time."""
        self._check_writable()
        for name in (self._name, self._kept):
            self._server.call(lambda name=name: self._server.client.flush(name))  # type: ignore[misc]
            self._server.call(lambda name=name: self._server.client.compact(name))  # type: ignore[misc]
        self.refresh()

    def snapshot(self, location: str | Path) -> None:
        """See `Gallery.snapshot`: of the entries that are there when it begins, each as it is at its turn."""
        from sonoseek.gallery.sqlite.copy import copy_entries

        copy_entries(self, location)

    # Reading

    def get(self, scan_id: str) -> GalleryEntry | None:
        """See `Gallery.get`."""
        found = self.entries(scan_ids=[scan_id])
        return found[0] if found else None

    def entries(
        self,
        *,
        scan_ids: Iterable[str] = (),
        cases: Iterable[CaseKey] = (),
        pictures: bool = True,
        evidence: bool = True,
    ) -> tuple[GalleryEntry, ...]:
        """See `Gallery.entries`."""
        found = {
            row["key"]: row
            for field, texts in (
                ("scan_id", list(scan_ids)),
                ("case_key", [rows.pair(dataset, case_id) for dataset, case_id in cases]),
            )
            for row in self._server.among(self._name, field, texts, rows.ENTRY_FIELDS)
        }
        return tuple(self._read(found.values(), pictures=pictures, evidence=evidence))

    def count(self) -> int:
        """See `Gallery.count`."""
        return self._server.count(self._name, EVERYTHING)

    def state(self) -> str:
        """See `Gallery.state`."""
        return f"{int(self._meta()['stamp']):x}"

    def sample(
        self, count: int, *, seed: int = 0, pictures: bool = False, evidence: bool = False
    ) -> tuple[GalleryEntry, ...]:
        """See `Gallery.sample`."""
        keys = sorted(row["key"] for row in self._server.every(self._name, EVERYTHING, ["key"]))
        picked = drawn(keys, count, seed=seed)
        read: list[GalleryEntry] = []
        for start in range(0, len(picked), _FETCHED):
            found = self._server.among(self._name, "key", picked[start : start + _FETCHED], rows.ENTRY_FIELDS)
            read += self._read(found, pictures=pictures, evidence=evidence)
        return tuple(sorted(read, key=lambda entry: (entry.record.dataset, entry.record.case_id, entry.scan_id)))

    def __iter__(self) -> Iterator[GalleryEntry]:
        every = self._server.every(self._name, EVERYTHING, ["key", "dataset", "case_id", "scan_id"])
        keys = [key for *_, key in sorted((r["dataset"], r["case_id"], r["scan_id"], r["key"]) for r in every)]
        for start in range(0, len(keys), _FETCHED):
            found = self._server.among(self._name, "key", keys[start : start + _FETCHED], rows.ENTRY_FIELDS)
            yield from self._read(found, pictures=True, evidence=True)

    def words(self) -> dict[str, dict[str, int]]:
        """See `Gallery.words`."""

        def tally() -> dict[str, dict[str, int]]:
            counts: dict[str, dict[str, int]] = {}
            for row in self._server.every(self._name, "array_length(descriptors) > 0", ["descriptors"], strong=False):
                for told in row["descriptors"]:
                    feature, _, word = told.partition("=")
                    held = counts.setdefault(feature, {"": 0})
                    held[word] = held.get(word, 0) + 1
            return counts

        return {feature: dict(counts) for feature, counts in self._remembered("words", tally).items()}

    def values(self, field: str) -> list[str]:
        """Texts that occur in a field, unknown left out; of "descriptors", "feature=word"."""
        if field == "descriptors":
            return [f"{feature}={word}" for feature, counts in self.words().items() for word in counts if word]

        def tally() -> list[str]:
            found = self._server.every(self._name, f'{field} != ""', [field], strong=False)
            return sorted({row[field][1:] for row in found})

        listed: list[str] = self._remembered(field, tally)
        return listed

    def fingerprints(self, dataset: str) -> dict[str, str]:
        """See `Gallery.fingerprints`."""
        from sonoseek.gallery.filter.milvus import quoted

        found: dict[str, set[str]] = {}
        expression = f"dataset == {quoted('=' + dataset)}"
        for row in self._server.every(self._name, expression, ["case_id", "fingerprint"]):
            found.setdefault(row["case_id"][1:], set()).add(row["fingerprint"])
        return {case_id: min(told) for case_id, told in found.items() if len(told) == 1 and "" not in told}

    def exclusion_for(self, scan_id: str, *, patient_id: str | None = None) -> Exclusion:
        """See `Gallery.exclusion_for`."""
        owners = [rows.case_of(row) for row in self._server.among(self._name, "scan_id", [scan_id], ["content"])]
        owners.sort(key=lambda case: (case["dataset"], case["case_id"]))
        patients = [(case["dataset"], case["patient_id"]) for case in owners if case["patient_id"] is not None]
        groups = [(case["dataset"], case["group"]) for case in owners if case["group"] is not None]
        if patient_id is not None:
            named = self._server.among(self._name, "patient_id", ["=" + patient_id], ["dataset"])
            patients += [(dataset, patient_id) for dataset in sorted({row["dataset"][1:] for row in named})]
        return Exclusion(
            scan_ids=(scan_id,), patients=tuple(dict.fromkeys(patients)), groups=tuple(dict.fromkeys(groups))
        )

    def count_excluded(self, exclusion: Exclusion) -> ExcludedCounts:
        """See `Gallery.count_excluded`."""
        counts: list[int] = []
        earlier: list[str] = []
        for expression in search.excluded(exclusion):
            counts.append(
                self._server.count(self._name, " and ".join([f"({expression})", *earlier])) if expression else 0
            )
            earlier += [f"not ({expression})"] if expression else []
        return ExcludedCounts(scans=self.count(), same_scan=counts[0], same_patient=counts[1], same_group=counts[2])

    def info(self) -> GalleryInfo:
        """See `Gallery.info`. Milvus does not say what it takes; `bytes` is of vectors, graph and texts, worked out."""
        meta = self._meta()
        fields = ["case_key", "pathology", "dataset", "device", "birads", "content"]
        tallies: list[Counter[str]] = [Counter(), Counter(), Counter(), Counter()]
        cases: set[str] = set()
        texts = 0
        for row in self._server.every(self._name, EVERYTHING, fields):
            cases.add(row["case_key"])
            texts += len(row["content"])
            for tally, name in zip(tallies, fields[1:5], strict=True):
                tally[row[name][1:] or UNKNOWN] += 1
        by_label, by_dataset, by_device, by_birads = tallies
        scans = by_label.total()
        return GalleryInfo(
            gallery_id=self.gallery_id,
            engine="milvus",
            location=self.location,
            bundle_id=self.bundle_id,
            dimension=self.dimension,
            scans=scans,
            cases=len(cases),
            by_label=dict(by_label.most_common()),
            by_dataset=dict(by_dataset.most_common()),
            by_device=dict(by_device.most_common()),
            by_birads={name: by_birads[name] for name in (*BIRADS_CATEGORIES, UNKNOWN) if by_birads[name]},
            bytes=scans * (4 * self.dimension + 8 * GRAPH["M"]) + texts,
            cache_bytes=0,
            index=f"HNSW of the server (M {GRAPH['M']}), best hits ranked again exactly; strong consistency",
            schema_version=int(meta["schema"]),
            sonoseek_version=str(meta["sonoseek_version"]),
            created=datetime.fromisoformat(meta["created"]),
        )

    def largest_patients(self) -> tuple[PatientShare, ...]:
        """See `Gallery.largest_patients`; reads two fields of every row."""
        from sonoseek.gallery.milvus.checks import find_largest_patients

        return find_largest_patients(self._server, self._name)

    def verify(self, *, on_progress: Callable[[int, int], None] | None = None) -> tuple[str, ...]:
        """See `Gallery.verify`."""
        from sonoseek.gallery.milvus.checks import find_problems

        return find_problems(self._server, self._name, dimension=self.dimension, on_progress=on_progress)

    # Search

    def search(
        self,
        embedding: NDArray[np.float32],
        *,
        k: int = 10,
        where: str | None = None,
        exclude: Exclusion | None = None,
        novelty: bool = True,
        pictures: bool = True,
        per_patient: bool = False,
        duplicate_threshold: float | None = None,
    ) -> SearchResult:
        """See `Gallery.search`."""
        query = check_embedding(embedding, dimension=self.dimension)
        (result,) = self.search_many(
            query[np.newaxis],
            k=k,
            where=where,
            exclude=exclude,
            novelty=novelty,
            pictures=pictures,
            per_patient=per_patient,
            duplicate_threshold=duplicate_threshold,
        )
        return result

    def search_many(
        self,
        embeddings: NDArray[np.float32],
        *,
        k: int = 10,
        where: str | None = None,
        exclude: Exclusion | None = None,
        novelty: bool = True,
        pictures: bool = True,
        per_patient: bool = False,
        duplicate_threshold: float | None = None,
    ) -> tuple[SearchResult, ...]:
        """See `Gallery.search_many`."""
        queries = normalised(check_embeddings(embeddings, dimension=self.dimension))
        if (k := operator.index(k)) < 0:
            raise InvalidValueError(f"k is {k}; it is the number of matches, 0 or more.")
        check_duplicate_threshold(duplicate_threshold)
        passing, allowed = search.expressions(where, exclude, self.values)
        look = search.Look(
            self._server, self._name, passing=passing, allowed=allowed, lowest=lowest_cosine(self.duplicate_threshold)
        )
        found = look.matches(queries, k=k, per_patient=per_patient, duplicate_threshold=duplicate_threshold)
        nearest = look.nearest(queries, found if where is None else None) if novelty else [Nearest()] * len(queries)
        own = self._own() if novelty and len(queries) else np.empty(0, np.float32)
        kept = self._pieces([each.hit.fields for hits in found for each in hits], "p") if pictures else {}
        return tuple(
            search.result(hits, nearest=near, own=own, kept=kept) for hits, near in zip(found, nearest, strict=True)
        )

    def novelty(self, embedding: NDArray[np.float32], *, exclude: Exclusion | None = None) -> float | None:
        """See `Gallery.novelty`."""
        return self.search(embedding, k=0, exclude=exclude).novelty

    # The rest

    def close(self) -> None:
        """See `Gallery.close`."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.close()

    def _read(self, found: Iterable[dict[str, Any]], *, pictures: bool, evidence: bool) -> Iterator[GalleryEntry]:
        listed = list(found)
        kinds = ("p" if pictures else "") + ("e" if evidence else "")
        kept = self._pieces(listed, kinds) if kinds else {}
        read = [rows.read_entry(row, kept.get(rows.owner_of(row), {})) for row in listed]
        yield from sorted(read, key=lambda entry: (entry.record.dataset, entry.record.case_id, entry.scan_id))

    def _pieces(self, found: list[Any], kinds: str) -> dict[str, dict[str, bytes]]:
        return search.read_pieces(self._server, self._kept, found, kinds)

    def _meta(self) -> dict[str, Any]:
        (row,) = self._server.query(self._kept, f'key == "{rows.META}"', ["data"]) or [{"data": "{}"}]
        meta: dict[str, Any] = json.loads(row["data"])
        return meta

    def _advance(self) -> None:
        """Mark a new state."""
        with self._lock:
            self._server.upsert(self._kept, [_meta_row({**self._meta(), "stamp": secrets.randbits(62)})])

    def _remembered(self, name: str, tally: Callable[[], Any]) -> Any:
        """What is worked out once per state."""
        stamp = int(self._meta()["stamp"])
        held = self._tallied.get(name)
        if held is None or held[0] != stamp:
            held = self._tallied[name] = stamp, tally()
        return held[1]

    def _own(self) -> NDArray[np.float32]:
        """The gallery's own distances; worked out anew when it has changed by a tenth, or is small and has changed."""
        meta = self._meta()
        stamp, held = int(meta["stamp"]), self._tallied.get("own")
        if held is not None and held[0] == stamp:
            return np.asarray(held[1][1])
        rows_now = self.count()
        told = held[1] if held is not None else None
        if told is None and "own" in meta:
            told = meta["own"]["rows"], np.asarray(meta["own"]["distances"], np.float32)
            stale = meta["own"]["stamp"] != stamp
        else:
            stale = True
        if told is None or (stale and (rows_now < _SMALL or abs(rows_now - told[0]) > _TOLERATED * told[0])):
            told = (
                rows_now,
                search.own_distances(self._server, self._name, lowest=lowest_cosine(self.duplicate_threshold)),
            )
            if self._mode == "w":
                kept = {"stamp": stamp, "rows": rows_now, "distances": [float(distance) for distance in told[1]]}
                with self._lock:
                    self._server.upsert(self._kept, [_meta_row({**self._meta(), "own": kept})])
        self._tallied["own"] = stamp, told
        return np.asarray(told[1])

    def _check_writable(self) -> None:
        if self._mode != "w":
            raise GalleryError(f"{self.location} is open for reading. Open it with mode 'w' to change it.")


_SLOWEST_S = 30.0
"""Seconds that a request may take, at least: a server that loads a collection answers late."""
_SMALL = 2_000
_TOLERATED = 0.1


def _check_index(index: Index) -> None:
    if index != "auto":
        raise InvalidValueError(
            f"index is {index!r}; on Milvus the server's index is HNSW, whatever the size. Leave index at 'auto'."
        )


def _meta_row(meta: dict[str, Any]) -> dict[str, Any]:
    return {"key": rows.META, "owner": "", "data": json.dumps(meta), "nothing": [0.0, 0.0]}


def _create_collections(server: Server, name: str, dimension: int) -> None:
    def text(field: str, most: int, **more: Any) -> dict[str, Any]:
        return {"name": field, "type": "VARCHAR", "max_length": most, **more}

    longest = rows.LONGEST
    keys = ["scan_id", "case_key", "patient_key", "group_key", "dataset", "pathology", "birads", "device", "patient_id"]
    scans = [
        text("key", 64, is_primary=True),
        {"name": "embedding", "type": "FLOAT_VECTOR", "dim": dimension},
        *(text(field, longest.get(field, 2_500)) for field in keys),
        *(
            text(field, longest.get(field, 64))
            for field in ("case_id", "histology", "laterality", "view", "case_group")
        ),
        *(text(field, longest.get(field, 64)) for field in ("fingerprint", "scan_digest", "case_digest", "content")),
        {"name": "age_years", "type": "DOUBLE"},
        {"name": "acquired", "type": "DOUBLE"},
        {
            "name": "descriptors",
            "type": "ARRAY",
            "element_type": "VARCHAR",
            "max_capacity": rows.WORDS,
            "max_length": 512,
        },
    ]
    kept = [
        text("key", 128, is_primary=True),
        text("owner", 128),
        text("data", 65_535),
        {"name": "nothing", "type": "FLOAT_VECTOR", "dim": 2},  # no collection without a vector
    ]
    graph = {"field_name": "embedding", "index_type": "HNSW", "metric_type": "IP", "params": GRAPH}
    flat = {"field_name": "nothing", "index_type": "FLAT", "metric_type": "L2"}
    trees = [{"field_name": field, "index_type": "Trie"} for field in keys]
    with ThreadPoolExecutor(2) as threads:  # each takes seconds, until it is loaded
        made = [
            threads.submit(server.create, f"{name}_kept", kept, [flat, {"field_name": "owner", "index_type": "Trie"}]),
            threads.submit(server.create, name, scans, [graph, *trees]),
        ]
        for each in made:
            each.result()
