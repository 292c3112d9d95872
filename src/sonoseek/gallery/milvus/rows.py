"""Between entries and what two Milvus collections hold of them.

`NAME` has a row per scan: its unit vector, the fields of filters, and the rest as JSON. `NAME_kept` has pictures and
evidence, cut into pieces, since no field of Milvus 2.3 holds more than 65,535 bytes, and one row about the gallery.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from hashlib import blake2b
from typing import Any

import numpy as np

from sonoseek.core import GalleryError, InvalidValueError, Match
from sonoseek.gallery.exact import normalised
from sonoseek.gallery.filter.milvus import UNKNOWN_NUMBER, days
from sonoseek.gallery.sqlite.digests import CASE_NAMES, case_digest
from sonoseek.gallery.sqlite.rows import Row, make_entry, read_descriptors
from sonoseek.gallery.sqlite.write import PreparedScan
from sonoseek.gallery.values import GalleryEntry

Fields = dict[str, Any]

LONGEST = {
    "dataset": 1_024,
    "case_id": 1_024,
    "scan_id": 256,
    "patient_id": 1_024,
    "case_group": 1_024,
    "device": 1_024,
    "histology": 8_192,
    "view": 1_024,
    "fingerprint": 256,
    "content": 65_000,
}
"""Bytes of the fields that hold what others wrote."""
WORDS = 64
"""Descriptors of one case, at most; markers of the described features among them."""
PIECE = 48_000
"""Bytes of a picture or of evidence in one row: 64,000 characters in base64."""
META = "meta"
"""Key of the row about the gallery."""
_TEXTS = ("dataset", "case_id", "pathology", "birads", "device", "histology", "patient_id")
"""Of a case, under the same names in a scan's row."""
MATCH_FIELDS = ["key", "scan_id", "content", "embedding", "scan_digest"]
ENTRY_FIELDS = ["key", "scan_id", "content", "scan_digest", "case_digest"]


def key_of(scan_id: str, dataset: str, case_id: str) -> str:
    """Primary key of an entry: 32 hex digits."""
    return blake2b(json.dumps([scan_id, dataset, case_id]).encode(), digest_size=16).hexdigest()


def pair(dataset: str, name: str | None) -> str:
    """A patient, a group or a case of a dataset in one field; "" for none."""
    return "" if name is None else json.dumps([dataset, name], ensure_ascii=False)


def scan_fields(case: Row, scan: PreparedScan) -> Fields:
    """A scan's row.

    Raises:
        InvalidValueError: a text is longer than Milvus keeps.
    """
    record = dict(zip(CASE_NAMES, case, strict=True))
    descriptors = read_descriptors(record["descriptors"])
    terms = {f"{feature}={word}" for feature, word in descriptors} | {f"{feature}=" for feature, _ in descriptors}
    blob, exponent, *rest = scan.row
    stored = np.frombuffer(blob, "<f2").astype(np.float32)
    content = json.dumps(
        {
            "case": case,
            "scan": [base64.b64encode(blob).decode(), exponent, *rest],
            "sizes": [len(scan.picture or b""), len(scan.evidence or b"")],
            "kept": [scan.picture is not None, scan.evidence is not None],
        },
        ensure_ascii=False,
    )
    dataset, case_id = record["dataset"], record["case_id"]
    fields: Fields = {
        "key": key_of(scan.scan_id, dataset, case_id),
        "embedding": normalised(stored[np.newaxis])[0].tolist(),
        "scan_id": scan.scan_id,
        "case_key": pair(dataset, case_id),
        "patient_key": pair(dataset, record["patient_id"]),
        "group_key": pair(dataset, record["group"]),
        **{name: _text(record[name]) for name in _TEXTS},
        "laterality": _text(rest[4]),
        "view": _text(rest[5]),
        "case_group": _text(record["group"]),
        "age_years": UNKNOWN_NUMBER if record["age_years"] is None else record["age_years"],
        "acquired": (UNKNOWN_NUMBER if record["acquired"] is None else days(date.fromisoformat(record["acquired"]))),
        "descriptors": sorted(terms),
        "fingerprint": rest[-1],
        "scan_digest": scan.digest.hex(),
        "case_digest": case_digest(case).hex(),
        "content": content,
    }
    for name, most in LONGEST.items():
        if len(fields[name].encode()) > most:
            raise InvalidValueError(
                f"{name} of scan {scan.scan_id} has {len(fields[name].encode())} bytes; Milvus keeps {most}. Cut it."
            )
    if len(terms) > WORDS:
        raise InvalidValueError(f"case {case_id!r} has {len(terms)} descriptors; Milvus keeps {WORDS}. Leave some out.")
    return fields


def with_case(fields: Mapping[str, Any], case: Row) -> Fields:
    """A scan's row as it is once its case has another record; its picture and evidence stay where they are."""
    content = json.loads(fields["content"])
    coded, exponent, *rest = content["scan"]
    scan = PreparedScan(
        fields["scan_id"], (base64.b64decode(coded), exponent, *rest), bytes.fromhex(fields["scan_digest"]), None, None
    )
    changed = scan_fields(case, scan)
    changed["content"] = json.dumps({**content, "case": case}, ensure_ascii=False)
    return changed


def pieces(key: str, scan: PreparedScan) -> Iterator[Fields]:
    """Rows of `NAME_kept`: a scan's picture and evidence, never written over: their key contains the digest."""
    for kind, data in (("p", scan.picture), ("e", scan.evidence)):
        for number, start in enumerate(range(0, len(data or b""), PIECE)):
            yield {
                "key": f"{key}/{scan.digest.hex()}/{kind}{number:04d}",
                "owner": f"{key}/{scan.digest.hex()}",
                "data": base64.b64encode((data or b"")[start : start + PIECE]).decode(),
                "nothing": [0.0, 0.0],
            }


def owner_of(fields: Mapping[str, Any]) -> str:
    """`owner` of a scan's pieces."""
    return f"{fields['key']}/{fields['scan_digest']}"


def entry_from_row(fields: Mapping[str, Any], pieces: Mapping[str, bytes]) -> GalleryEntry:
    """An entry from its row and its pieces, joined, under "p" and "e"; missing ones are None.

    Raises:
        GalleryError: it holds what no entry can hold.
    """
    try:
        content = json.loads(fields["content"])
        coded, *rest = content["scan"]
        return make_entry(
            content["case"],
            [base64.b64decode(coded), *rest],
            scan_id=fields["scan_id"],
            picture=pieces.get("p"),
            evidence=pieces.get("e"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise GalleryError(
            f"scan {fields.get('scan_id')} does not read ({error}); the gallery is damaged. Run `sonoseek index "
            "verify` on it, and restore it from a copy."
        ) from error


def read_match(
    fields: Mapping[str, Any],
    *,
    rank: int,
    similarity: float,
    near_duplicates: int,
    same_patient: int,
    picture: bytes | None,
) -> Match:
    """A match from a row with `MATCH_FIELDS`."""
    case = case_of(fields)
    return Match(
        rank=rank,
        scan_id=fields["scan_id"],
        similarity=similarity,
        label=case["pathology"],
        descriptors=read_descriptors(case["descriptors"]),
        picture=picture,
        near_duplicates=near_duplicates,
        same_patient=same_patient,
        **{name: case[name] for name in ("case_id", "dataset", "birads", "histology", "device", "patient_id", "group")},
    )


def case_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The case's record, by `CASE_NAMES`, from a row with its content."""
    return dict(zip(CASE_NAMES, json.loads(fields["content"])["case"], strict=True))


def join_pieces(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, bytes]]:
    """Owner → kind → data, from rows of `NAME_kept`."""
    joined: dict[str, dict[str, bytes]] = {}
    for row in sorted(rows, key=lambda each: str(each["key"])):
        kind = row["key"].rsplit("/", 1)[1][0]
        of_owner = joined.setdefault(row["owner"], {})
        of_owner[kind] = of_owner.get(kind, b"") + base64.b64decode(row["data"])
    return joined


def _text(value: str | None) -> str:
    return "" if value is None else "=" + value
