"""The token of a server that was given none: made at its first start, and kept beside its batch jobs."""

from __future__ import annotations

import html
import secrets
from pathlib import Path

from sonoseek.core import InvalidValueError
from sonoseek.core.files import PRIVATE, make_private_folder, write_atomically

NAME = "token"
"""Of the file in the state folder; deleting it makes every link so far invalid."""
OPEN_NAME = "open.html"
"""Of the file that `--open` opens."""


def link_token(state: Path | None) -> str:
    """The token of a state folder; made there where it has none, so that a link stays valid across restarts.

    Args:
        state: the folder; None: a temporary one, whose server gets another token each time.

    Returns:
        43 characters of the URL-safe alphabet, 256 random bits.

    Raises:
        InvalidValueError: the file cannot be read or written.
    """
    if state is None:
        return secrets.token_urlsafe(32)
    path = state / NAME
    try:
        make_private_folder(state)
        token = path.read_text("utf-8").strip() if path.is_file() else ""
        if not token:
            token = secrets.token_urlsafe(32)
            write_atomically(path, f"{token}\n", mode=PRIVATE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InvalidValueError(
            f"the server's token cannot be kept in {path} ({reason}); name a folder that may be written with --state, "
            "or give a token with SONOSEEK_TOKEN."
        ) from error
    return token


def link(address: str, token: str | None) -> str:
    """The page's address with the token as its fragment, which a browser sends to no server; None: the bare address."""
    return address if token is None else f"{address}#token={token}"


def link_file(state: Path, link: str) -> str:
    """URL of a file that leads to a link, for a program that opens it: every user of a machine sees its arguments."""
    shown = html.escape(link)
    page = (
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={shown}">'
        f'<title>sonoseek</title><a href="{shown}">The reading room</a>\n'
    )
    return write_atomically(state / OPEN_NAME, page, mode=PRIVATE).resolve().as_uri()
