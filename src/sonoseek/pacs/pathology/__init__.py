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
    messages = [file for file in files if _is_hl7(file)]
    results = [result for file in files if file not in messages for result in read_csv_results(file, terms)]
    return results + (read_hl7_results(messages, terms) if messages else [])


def _is_hl7(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            first = stream.read(64)
    except OSError:
        return False  # the reader of tables says what is wrong
    head = first.lstrip(b"\xef\xbb\xbf\x0b\r\n ")  # the separator of the fields is the message's own
    signs = head[3:5]  # of fields and of components: a column of a table may well be called "MSH_ID"
    return head[:3] in (b"MSH", b"FHS", b"BHS") and len(signs) == 2 and not any(chr(sign).isalnum() for sign in signs)
