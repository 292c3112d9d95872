"""What a check of a peer says of one step."""

from __future__ import annotations

from dataclasses import dataclass

from sonoseek.core import SonoseekError


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a check.

    Attributes:
        name: what was tried.
        passed: True or False; None: not tried, since a step before it failed or it was not asked for.
        detail: what came of it.
        remedy: what to change, "" where nothing is wrong.
    """

    name: str
    passed: bool | None
    detail: str = ""
    remedy: str = ""

    @classmethod
    def failed(cls, name: str, error: SonoseekError) -> Step:
        """Of an error: its first sentence says what is wrong, the others the remedy."""
        detail, _, remedy = str(error).partition(". ")
        return cls(name=name, passed=False, detail=detail.rstrip("."), remedy=remedy)
