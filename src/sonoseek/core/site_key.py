"""The site key: 32 random bytes, made at the first use, from which pseudonyms and opaque names are derived.

A plain hash of a patient's number is no pseudonym: all numbers of seven digits are hashed in seconds. An HMAC (FIPS
198-1) with a key that stays at the site cannot be tried out elsewhere. Whoever loses the key cannot recognise the same
patient in new files; whoever gives it away gives the pseudonyms away. Only the process that asks for a pseudonym reads
the key: the child that parses foreign files returns a hash of PatientID, and never sees the key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from sonoseek.core.errors import SiteKeyError
from sonoseek.core.files import make_private_folder, open_private, sync_folder
from sonoseek.core.settings import Settings

KEY_BYTES = 32
UNKEYED = re.compile(r"p-[0-9a-f]{16}")
"""A pseudonym as sonoseek made them before it had a site key: of the sha256 of PatientID."""
KEYED = re.compile(r"k-[0-9a-f]{16}")
"""A pseudonym with a site key."""
_keys: dict[Path, bytes] = {}
_deferred = False
_FINGERPRINT = b"sonoseek site key"


def site_key_path(settings: Settings | None = None) -> Path:
    """Where the key lies: `SONOSEEK_SITE_KEY`, else `sonoseek/site.key` in the user's state folder.

    The state folder is `$XDG_STATE_HOME`, `~/.local/state` where that is not set (XDG Base Directory Specification).

    Raises:
        SiteKeyError: the user has no home folder.
    """
    named = (settings or Settings.from_environment()).site_key
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        if named is not None:
            return named.expanduser()
        folder = Path(state) if Path(state).is_absolute() else Path("~/.local/state").expanduser()
    except RuntimeError as error:
        raise SiteKeyError(
            "this user has no home folder, where the site key would lie. Name a file with SONOSEEK_SITE_KEY."
        ) from error
    return folder / "sonoseek" / "site.key"


def site_key(settings: Settings | None = None) -> bytes:
    """The key, 32 bytes; made where there is none yet. Two processes that make it at once get the same.

    Raises:
        SiteKeyError: its file is damaged, can be read by other users, or cannot be read or made.
    """
    path = site_key_path(settings)
    if path not in _keys:
        try:
            if not path.exists():
                _make(path)
            _keys[path] = _read(path)
        except OSError as error:
            raise SiteKeyError(
                f"the site key {path} cannot be read or made ({(error.strerror or str(error)).lower()}); pseudonyms "
                "are made with it. Name a file that this user may write with SONOSEEK_SITE_KEY."
            ) from error
    return _keys[path]


def derived(purpose: str, text: str, *, settings: Settings | None = None) -> str:
    """HMAC-SHA256 of a text with the site key, 64 hex digits; equal texts differ between purposes.

    Raises:
        SiteKeyError: as `site_key`.
    """
    message = purpose.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
    return hmac.new(site_key(settings), message, hashlib.sha256).hexdigest()


def keyed(unkeyed: str, *, settings: Settings | None = None) -> str:
    """The pseudonym of a patient from the hash of PatientID that the reading child returns.

    Args:
        unkeyed: "p-" and 16 hex digits. Composed like this, a gallery with such pseudonyms is keyed without its
            sources.
        settings: where the key lies.

    Returns:
        "k-" and 16 hex digits of the HMAC.

    Raises:
        SiteKeyError: as `site_key`.
    """
    return unkeyed if _deferred else "k-" + derived("patient", unkeyed, settings=settings)[:16]


def defer_keys() -> None:
    """Have `keyed` change nothing in this process from now on: for a worker on a machine that has no site key.

    Whoever takes its results in then keys their pseudonyms.
    """
    global _deferred  # a state of the whole process
    _deferred = True


def is_unkeyed(patient_id: str | None) -> bool:
    """Whether this is a pseudonym that sonoseek made without a key."""
    return patient_id is not None and UNKEYED.fullmatch(patient_id) is not None


def is_keyed(patient_id: str | None) -> bool:
    """Whether this is a pseudonym that was made with a site key."""
    return patient_id is not None and KEYED.fullmatch(patient_id) is not None


def key_fingerprint(settings: Settings | None = None) -> str:
    """8 hex digits that tell two keys apart and reveal neither; a gallery stores those of its key.

    Raises:
        SiteKeyError: as `site_key`.
    """
    return hmac.new(site_key(settings), _FINGERPRINT, hashlib.sha256).hexdigest()[:8]


def _make(path: Path) -> None:
    """Write a new key beside the place and link it there: whole or not at all, and never over another."""
    make_private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with open_private(draft, "xb") as file:
            file.write(secrets.token_hex(KEY_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # another process was the first: its key counts
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        content = file.read(4 * KEY_BYTES)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SiteKeyError(
            f"the site key {path} has the mode {stat.S_IMODE(mode):o}: other users can read it; only its owner may. "
            f"Run `chmod 600 {path}`, and ask who has read it: with the key pseudonyms can be undone."
        )
    text = content.strip()
    if not stat.S_ISREG(mode) or re.fullmatch(rb"[0-9a-f]{64}", text) is None:
        raise SiteKeyError(
            f"the site key {path} is damaged: it has {len(content)} bytes that are not 64 hex digits. Restore it from "
            "a backup. Only where no gallery has pseudonyms yet, delete it: the next use then makes another."
        )
    return bytes.fromhex(text.decode())
