"""One SQLite transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One transaction that writes; committed when the block has ended without an error, undone otherwise.

    Args:
        connection: in autocommit mode (`isolation_level=None`).

    Raises:
        sqlite3.Error: as SQLite raises it; of a full disk as late as at the end.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has ended it itself
            connection.execute("ROLLBACK")
        raise
