"""The key of a study: which pictures it consists of, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def study_key(uids: Iterable[str]) -> str:
    """Key of a study from its ultrasound pictures.

    Results that come back to the listener are no ultrasound pictures, so they do not change the key; neither do
    pictures that are sent again.

    Args:
        uids: SOP Instance UIDs of the study's ultrasound pictures, in any order; repeated ones count once.

    Returns:
        sha256 of the sorted UIDs, joined by line feeds, 64 hex digits.
    """
    return hashlib.sha256("\n".join(sorted(set(uids))).encode()).hexdigest()
