"""Which site key the pseudonyms of a gallery were made with, and what follows for the same patient's next scan."""

from __future__ import annotations

from collections.abc import Iterable

from sonoseek.core import SiteKeyError
from sonoseek.core.site_key import is_keyed, key_fingerprint, keyed
from sonoseek.gallery.base import Gallery


def check_key(location: str, stored: str | None, fingerprint: str) -> None:
    """Refuse to mix the pseudonyms of two keys.

    Raises:
        SiteKeyError: `stored` is another key's fingerprint.
    """
    if stored not in (None, fingerprint):
        raise SiteKeyError(
            f"the pseudonyms of {location} were made with the site key {stored}, this machine's is {fingerprint}; with "
            "two keys scans of one patient would not be recognised. Name the file of the other key with "
            "SONOSEEK_SITE_KEY, or build another gallery."
        )


def note_site_key(gallery: Gallery, patients: Iterable[str | None]) -> None:
    """Store which site key a gallery's pseudonyms are made with, before the first that is.

    Args:
        gallery: open for writing.
        patients: the patient_ids of what is to be added; those of tables ("A17") need no key.

    Raises:
        SiteKeyError: the gallery's pseudonyms were made with another key; or as `sonoseek.core.site_key.site_key`.
    """
    if any(is_keyed(patient) for patient in patients):
        gallery.store_site_key(key_fingerprint())


def pseudonym_problem(gallery: Gallery, patients: Iterable[str | None]) -> str | None:
    """Why scans of these patients may not be recognised in a gallery, as a sentence; None where they are.

    Raises:
        SiteKeyError: as `sonoseek.core.site_key.site_key`.
    """
    if not any(is_keyed(patient) for patient in patients):
        return None
    if gallery.site_key not in (None, key_fingerprint()):
        return (
            "The archive's pseudonyms were made with another site key: scans of this patient in the archive are not "
            "recognised and may be among the matches. Use the site key of the archive (SONOSEEK_SITE_KEY)."
        )
    if gallery.count_unkeyed():
        return (
            "The archive has pseudonyms from before there was a site key: scans of this patient in the archive may not "
            "be recognised and may be among the matches. Run `sonoseek index rekey` on the archive."
        )
    return None


def rekey(gallery: Gallery) -> int:
    """Replace a gallery's pseudonyms that were made without a key by keyed ones; others stay. No source is read.

    Args:
        gallery: open for writing. In an SQLite file all are replaced or none; on Milvus a stopped call is continued by
            the next.

    Returns:
        How many cases were changed.

    Raises:
        SiteKeyError: its other pseudonyms were made with another key; or as `sonoseek.core.site_key.site_key`.
    """
    return gallery.replace_unkeyed(keyed, fingerprint=key_fingerprint())
