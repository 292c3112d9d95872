"""Fixed ways of scoring. One protocol per file; the table is `sonoseek.evaluate.PROTOCOLS`."""

from sonoseek.evaluate.protocols.base import (
    VALIDATION,
    CaseSet,
    Key,
    Protocol,
    Round,
    classes_of,
    true_records,
)

__all__ = ["Protocol", "Round", "CaseSet", "Key", "VALIDATION", "classes_of", "true_records"]
