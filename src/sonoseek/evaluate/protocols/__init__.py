"""Fixed ways of scoring. One protocol per file; the table is `sonoseek.evaluate.PROTOCOLS`."""

from sonoseek.evaluate.protocols.base import VALIDATION, Protocol, Round, classes_of, true_records

__all__ = ["Protocol", "Round", "VALIDATION", "classes_of", "true_records"]
