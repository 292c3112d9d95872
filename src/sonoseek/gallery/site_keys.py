"""The check that a gallery has pseudonyms of one site key alone."""

from __future__ import annotations

from sonoseek.core import SiteKeyError


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
