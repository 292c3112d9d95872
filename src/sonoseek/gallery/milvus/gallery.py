"""The gallery on a Milvus server: for archives that are too large for one machine.

Consistency is strong: every search sees every write that was acknowledged before it, by any process. Each such request
waits for the server's next clock tick (`proxy.timeTickInterval`, 200 ms by default). A write is acknowledged once it is
in the server's write-ahead log.

Milvus has no transaction over several requests. Pictures are written first, then the scans, then what they replace is
deleted. So a server that is lost in between leaves nothing wrong, and adding the same again completes it. Search is by
HNSW over float32; similarities are computed again exactly.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import ExcludedCounts, GalleryError, InvalidValueError
from sonoseek.core.patients import PatientShare
from sonoseek.core.site_key import is_unkeyed
from sonoseek.gallery.base import Gallery, check_new_gallery
from sonoseek.gallery.deduplicate import lowest_cosine
from sonoseek.gallery.exact import Nearest
from sonoseek.gallery.filter.milvus import EVERYTHING, quoted
from sonoseek.gallery.milvus import rows, search
from sonoseek.gallery.milvus.checks import describe, find_largest_patients, find_problems
from sonoseek.gallery.milvus.collections import check_schema, create_collections, read_meta, write_meta
from sonoseek.gallery.milvus.reference_distances import ReferenceDistances
from sonoseek.gallery.milvus.server import Server, closing_on_error, parse_address
from sonoseek.gallery.milvus.write import remove_rows, write_entries
from sonoseek.gallery.novelty_sample import drawn
from sonoseek.gallery.pseudonyms import check_key
from sonoseek.gallery.sqlite.copy import published
from sonoseek.gallery.sqlite.database import create_database, database_path
from sonoseek.gallery.sqlite.gallery import SqliteGallery
from sonoseek.gallery.sqlite.write import prepare_entries
from sonoseek.gallery.values import (
    AddResult,
    CaseKey,
    Exclusion,
    GalleryEntry,
    GalleryInfo,
    Index,
    Mode,
    RemoveResult,
    SearchResult,
    VectorSearch,
)

_FETCHED = 64
"""Entries that an iteration holds at once."""
_COPIED = 256
"""Entries that a copy writes at a time: some 20 MB."""


class MilvusGallery(Gallery):
    """See `Gallery`."""

    def __init__(self, server: Server, name: str, location: str, *, mode: Mode) -> None:
        """Open it; callers use `open` or `create`."""
        self._server, self._name, self._pieces_name = server, name, f"{name}_kept"
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        meta = read_meta(server, name)
        super().__init__(location=location, mode=mode, meta=meta)
        check_schema(meta, location=location)
        self._references = ReferenceDistances(
            server,
            name,
            lowest=lowest_cosine(self.duplicate_threshold),
            store=self._update_meta if mode == "w" else None,
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
        check_new_gallery(bundle_id=bundle_id, dimension=dimension, duplicate_threshold=duplicate_threshold)
        with closing_on_error(Server(address, timeout_s=max(timeout_s, _SLOWEST_S))) as server:
            there = server.exists(address.name)
            if there and not exist_ok:
                raise GalleryError(f"{address.shown} exists already; open it, or choose another name for the gallery.")
            if not there:
                create_collections(
                    server,
                    address.name,
                    bundle_id=bundle_id,
                    dimension=dimension,
                    duplicate_threshold=duplicate_threshold,
                )
            gallery = cls(server, address.name, address.shown, mode="w")
            return gallery._check_created(bundle_id=bundle_id, dimension=dimension)

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

    def store_site_key(self, fingerprint: str) -> None:
        """See `Gallery.store_site_key`."""
        self._check_writable()
        stored = read_meta(self._server, self._name).get("site_key")
        check_key(self.location, stored, fingerprint)
        if stored is None:
            self._update_meta(site_key=fingerprint)
        self.site_key = fingerprint

    def replace_unkeyed(self, keyed: Callable[[str], str], *, fingerprint: str) -> int:
        """See `Gallery.replace_unkeyed`: case by case; a call that was stopped is continued by the next."""
        self.store_site_key(fingerprint)
        cases = self._unkeyed()
        for case in cases:
            entries = self.entries(cases=[case])
            known = {entry.record.patient_id for entry in entries if is_unkeyed(entry.record.patient_id)}
            new = {patient: keyed(str(patient)) for patient in known}
            self.add(
                replace(entry, record=replace(entry.record, patient_id=new[entry.record.patient_id]))
                for entry in entries
                if entry.record.patient_id in new
            )
        return len(cases)

    def count_unkeyed(self) -> int:
        """See `Gallery.count_unkeyed`."""
        return self._once_per_state("unkeyed", self.state(), lambda: len(self._unkeyed()))

    def refresh(self) -> None:
        """See `Gallery.refresh`: the server indexes by itself; the reference distances are computed."""
        self._references.current()

    def optimise(self) -> None:
        """See `Gallery.optimise`: segments are sealed, compacted and indexed by the server, in its own time."""
        self._check_writable()
        for name in (self._name, self._pieces_name):
            self._server.call(lambda name=name: self._server.client.flush(name))  # type: ignore[misc]
            self._server.call(lambda name=name: self._server.client.compact(name))  # type: ignore[misc]
        self.refresh()

    def copy_to(self, location: str | Path) -> None:
        """See `Gallery.copy_to`: of the entries that are there when it begins, each as it is at its turn."""
        with published(database_path(location)) as draft:
            create_database(
                draft,
                bundle_id=self.bundle_id,
                dimension=self.dimension,
                duplicate_threshold=self.duplicate_threshold,
                gallery_id=self.gallery_id,
            )
            with SqliteGallery(draft, mode="w", timeout_s=5.0, index="auto") as target:
                if self.site_key is not None:
                    target.store_site_key(self.site_key)
                waiting = iter(self)
                while entries := list(islice(waiting, _COPIED)):
                    target.add(entries)

    # Reading

    def entries(
        self,
        *,
        scan_ids: Iterable[str] = (),
        cases: Iterable[CaseKey] = (),
        pictures: bool = True,
        evidence: bool = True,
    ) -> tuple[GalleryEntry, ...]:
        """See `Gallery.entries`."""
        fetched = {
            row["key"]: row
            for field, texts in (
                ("scan_id", list(scan_ids)),
                ("case_key", [rows.pair(dataset, case_id) for dataset, case_id in cases]),
            )
            for row in self._server.among(self._name, field, texts, rows.ENTRY_FIELDS)
        }
        return tuple(self._read(fetched.values(), pictures=pictures, evidence=evidence))

    def count(self) -> int:
        """See `Gallery.count`."""
        return self._server.count(self._name, EVERYTHING)

    def state(self) -> str:
        """See `Gallery.state`."""
        return f"{int(read_meta(self._server, self._name)['stamp']):x}"

    def sample(
        self, count: int, *, seed: int = 0, pictures: bool = False, evidence: bool = False
    ) -> tuple[GalleryEntry, ...]:
        """See `Gallery.sample`."""
        keys = sorted(row["key"] for row in self._server.every(self._name, EVERYTHING, ["key"]))
        picked = drawn(keys, count, seed=seed)
        return tuple(sorted(self._fetch(picked, pictures=pictures, evidence=evidence), key=_place))

    def __iter__(self) -> Iterator[GalleryEntry]:
        every = self._server.every(self._name, EVERYTHING, ["key", "dataset", "case_id", "scan_id"])
        keys = [key for *_, key in sorted((r["dataset"], r["case_id"], r["scan_id"], r["key"]) for r in every)]
        yield from self._fetch(keys, pictures=True, evidence=True)

    def descriptor_counts(self) -> dict[str, dict[str, int]]:
        """See `Gallery.descriptor_counts`."""

        def count() -> dict[str, dict[str, int]]:
            counts: dict[str, dict[str, int]] = {}
            for row in self._server.every(self._name, "array_length(descriptors) > 0", ["descriptors"], strong=False):
                for pair in row["descriptors"]:
                    feature, _, descriptor = pair.partition("=")
                    per_descriptor = counts.setdefault(feature, {"": 0})
                    per_descriptor[descriptor] = per_descriptor.get(descriptor, 0) + 1
            return counts

        counts = self._once_per_state("descriptor_counts", self.state(), count)
        return {feature: dict(per_descriptor) for feature, per_descriptor in counts.items()}

    def values(self, field: str) -> list[str]:
        """Texts that occur in a field, unknown left out; of "descriptors", "feature=descriptor"."""
        if field == "descriptors":
            return [
                f"{feature}={descriptor}"
                for feature, counts in self.descriptor_counts().items()
                for descriptor in counts
                if descriptor
            ]

        def read() -> list[str]:
            rows_with_text = self._server.every(self._name, f'{field} != ""', [field], strong=False)
            return sorted({row[field][1:] for row in rows_with_text})

        return self._once_per_state(f"values of {field}", self.state(), read)

    def fingerprints(self, dataset: str) -> dict[str, str]:
        """See `Gallery.fingerprints`."""
        fingerprints: dict[str, set[str]] = {}
        expression = f"dataset == {quoted('=' + dataset)}"
        for row in self._server.every(self._name, expression, ["case_id", "fingerprint"]):
            fingerprints.setdefault(row["case_id"][1:], set()).add(row["fingerprint"])
        return {case_id: min(each) for case_id, each in fingerprints.items() if len(each) == 1 and "" not in each}

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
        """See `Gallery.info`. `bytes` is computed from vectors, graph and texts: Milvus does not report it."""
        return describe(self._server, self._name, location=self.location)

    def largest_patients(self) -> tuple[PatientShare, ...]:
        """See `Gallery.largest_patients`; reads two fields of every row."""
        return find_largest_patients(self._server, self._name)

    def verify(self, *, on_progress: Callable[[int, int], None] | None = None) -> tuple[str, ...]:
        """See `Gallery.verify`."""
        return find_problems(self._server, self._name, dimension=self.dimension, on_progress=on_progress)

    # Search

    def _search(self, queries: NDArray[np.float32], options: VectorSearch) -> tuple[SearchResult, ...]:
        passing, allowed = search.expressions(options.where, options.exclude, self.values)
        milvus_search = search.MilvusSearch(
            self._server, self._name, passing=passing, allowed=allowed, lowest=lowest_cosine(self.duplicate_threshold)
        )
        hits = milvus_search.matches(queries, options)
        nearest = [Nearest()] * len(queries)
        distances = np.empty(0, np.float32)
        if options.novelty and len(queries):
            nearest = milvus_search.nearest(queries, hits if options.where is None else None)
            distances = self._references.current()
        shown = [each.hit.fields for of_query in hits for each in of_query]
        pictures = search.read_pieces(self._server, self._pieces_name, shown, "p") if options.pictures else {}
        return tuple(
            search.result(of_query, nearest=near, reference_distances=distances, pieces=pictures)
            for of_query, near in zip(hits, nearest, strict=True)
        )

    def close(self) -> None:
        """See `Gallery.close`."""
        self._server.close()

    def _fetch(self, keys: list[str], *, pictures: bool, evidence: bool) -> Iterator[GalleryEntry]:
        for start in range(0, len(keys), _FETCHED):
            fetched = self._server.among(self._name, "key", keys[start : start + _FETCHED], rows.ENTRY_FIELDS)
            yield from self._read(fetched, pictures=pictures, evidence=evidence)

    def _read(self, fields: Iterable[dict[str, Any]], *, pictures: bool, evidence: bool) -> Iterator[GalleryEntry]:
        listed = list(fields)
        kinds = ("p" if pictures else "") + ("e" if evidence else "")
        pieces = search.read_pieces(self._server, self._pieces_name, listed, kinds) if kinds else {}
        entries = [rows.entry_from_row(row, pieces.get(rows.owner_of(row), {})) for row in listed]
        yield from sorted(entries, key=_place)

    def _unkeyed(self) -> list[CaseKey]:
        """Cases with a pseudonym from before there was a site key."""
        listed = self._server.every(self._name, 'patient_id like "=p-%"', ["dataset", "case_id", "patient_id"])
        unkeyed = [row for row in listed if is_unkeyed(row["patient_id"][1:])]
        return sorted({(row["dataset"][1:], row["case_id"][1:]) for row in unkeyed})

    def _update_meta(self, **changed: Any) -> None:
        """Change some of the gallery's description."""
        with self._lock:
            write_meta(self._server, self._name, {**read_meta(self._server, self._name), **changed})

    def _advance(self) -> None:
        """Mark a new state."""
        self._update_meta(stamp=secrets.randbits(62))


_SLOWEST_S = 30.0
"""Seconds that a request may take, at least: a server that loads a collection answers late."""


def _place(entry: GalleryEntry) -> tuple[str, str, str]:
    return entry.record.dataset, entry.record.case_id, entry.scan_id


def _check_index(index: Index) -> None:
    if index != "auto":
        raise InvalidValueError(
            f"index is {index!r}; on Milvus the server's index is HNSW, whatever the size. Leave index at 'auto'."
        )
