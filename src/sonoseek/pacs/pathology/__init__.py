"""Results of pathology: read from tables and HL7 messages, mapped to a class, joined with studies.

terms = load_terms(Path("terms.toml"))
joined = join_results(folder.all(), read_results([Path("results.csv"), Path("oru.hl7")], terms))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sonoseek.pacs.pathology.csv_results import read_csv_results
from sonoseek.pacs.pathology.hl7_results import read_hl7_results
from sonoseek.pacs.pathology.join import Joined, JoinedPicture, JoinRules, Listed, join_results
from sonoseek.pacs.pathology.terms import Terms, load_terms
from sonoseek.pacs.pathology.values import Result

__all__ = [
    "JoinRules",
    "Joined",
    "JoinedPicture",
    "Listed",
    "Result",
    "Terms",
    "join_results",
    "load_terms",
    "read_csv_results",
    "read_hl7_results",
    "read_results",
]


def read_results(files: Sequence[Path], terms: Terms) -> list[Result]:
    """Read tables (.csv, .tsv, .txt) and files of HL7 messages, distinguished by their first bytes.

    Raises:
        DatasetError: one does not read.
        MissingExtraError: hl7 is not installed.
    """
    results: list[Result] = []
    for file in files:
        results += (read_hl7_results if _is_hl7(file) else read_csv_results)(file, terms)
    return results


def _is_hl7(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            first = stream.read(64)
    except OSError:
        return False  # the reader of tables says what is wrong
    return first.lstrip(b"\xef\xbb\xbf\x0b\r\n ")[:4] in (b"MSH|", b"FHS|", b"BHS|")
