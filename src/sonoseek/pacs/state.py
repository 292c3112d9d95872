"""What all parts beside a PACS share: the settings, and the journal, the files and the audit trail of their folder."""

from __future__ import annotations

from sonoseek.pacs.audit import AuditTrail
from sonoseek.pacs.file_store import FileStore
from sonoseek.pacs.journal import Journal
from sonoseek.pacs.rules import PacsConfig


class State:
    """The state folder of some settings, open. Safe for several threads.

    Attributes:
        config: the settings, whole.
        journal, store, audit: of the folder.
    """

    def __init__(self, config: PacsConfig) -> None:
        """Open or make them.

        Raises:
            SonoseekError, TemporaryError, OSError: as `Journal`, `FileStore` and `AuditTrail`.
        """
        limits = config.listener
        self.config = config
        self.store = FileStore(
            config.state, min_free_bytes=limits.min_free_mb << 20, max_object_bytes=limits.max_object_mb << 20
        )
        self.audit = AuditTrail(config.audit.file or config.state / "audit.log", ae_title=limits.ae_title)
        self.journal = Journal(config.state)
