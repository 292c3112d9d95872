"""Queries each study once it has been quiet for as long as its rule says. One result a study, also after a crash.

A study is claimed in a transaction, its objects are written and flushed, and one further transaction marks it done and
fills the outbox. Whatever ends in between is begun anew, and writes the same objects: their UIDs follow from the study.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from sonoseek.core import SonoseekError
from sonoseek.pacs.audit import AuditTrail, StudyOf
from sonoseek.pacs.file_store import FileStore
from sonoseek.pacs.journal import Claim, Journal
from sonoseek.pacs.outbox_rows import Parcel
from sonoseek.pacs.query import Engine, Tools, query_study
from sonoseek.pacs.rules import PacsConfig, Rule
from sonoseek.pacs.waiting import Alarm

logger = logging.getLogger(__name__)


class Worker:
    """One thread, which sleeps until the next study is due."""

    def __init__(
        self,
        config: PacsConfig,
        *,
        journal: Journal,
        store: FileStore,
        audit: AuditTrail,
        tools: Tools,
        on_result: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the parts; `start` begins.

        Args:
            config: whole.
            journal: open.
            store: of the same folder.
            audit: where queries are written down.
            tools: the packages that a query takes.
            on_result: called after a result was put into the outbox.
        """
        self._config = config
        self._journal = journal
        self._store = store
        self._audit = audit
        self._tools = tools
        self._on_result = on_result
        self._engine: Engine | None = None
        self.alarm = Alarm()
        self._thread = threading.Thread(target=self._run, name="pacs-worker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the study that is being queried. Stopping twice is fine."""
        self.alarm.stop()
        if self._thread.is_alive():
            self._thread.join()
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def wake(self) -> None:
        """Something was received or put back: look again when to wake."""
        self.alarm.ring()

    def _run(self) -> None:
        keep_s = self._config.listener.keep_days * 86_400
        longest_s = max((max(rule.quiet_seconds, rule.retry_seconds) for rule in self._config.rules), default=0.0)
        interrupted = False
        while not self.alarm.stopped:
            try:
                if interrupted:  # what was being queried when the journal could not be used
                    self._journal.recover()
                    interrupted = False
                self._journal.follow_clock(longest_s)
                if (claim := self._journal.claim()) is not None:
                    self.process(claim)
                    continue
                expiry = self._journal.next_expiry(keep_s)
                if expiry is not None and expiry <= time.time():
                    self._store.remove(*self._journal.expire(keep_s))
                    continue
                due = self._journal.next_due()
            except Exception:  # a full disk, above all
                logger.exception("the journal could not be used; again in a minute")
                interrupted, due, expiry = True, time.time() + 60.0, None
            self.alarm.wait(until=min((each for each in (due, expiry) if each is not None), default=None))

    def process(self, claim: Claim) -> None:
        """Query one study and write down what came of it."""
        rule = self._config.rule(claim.rule)
        if rule is None:
            self._journal.fail(
                claim, f"its rule {claim.rule!r} is not in the settings any more; send it again.", again_at=None
            )
            return
        if len(claim.patients) > 1:  # its result would be filed under one of them
            self._fail(
                claim, rule, "its pictures name several patients; correct the study and send it again", last=True
            )
            return
        if claim.attempts > rule.attempts:  # the process ended during each of them
            self._fail(claim, rule, f"the process ended in {rule.attempts} attempts to query it")
            return
        try:
            if self._engine is None:
                self._engine = self._tools.open_engine()
            results, finding, message = query_study(
                claim, rule, engine=self._engine, tools=self._tools, path=self._store.path
            )
            parcels = [
                Parcel(
                    study_uid=claim.study_uid,
                    key=claim.key,
                    kind=result.kind,
                    sop_class=result.sop_class_uid,
                    sop_uid=result.sop_instance_uid,
                    file=self._store.put_out(result.sop_instance_uid, result.content),
                    peer=name,
                    commitment=self._config.peer(name).commitment,
                )
                for result in results
                for name in rule.send_to
            ]
            if self._journal.finish(claim, parcels, finding, message=message):
                self._audit_query(claim, failed=False)
                self._on_result()
        except (SonoseekError, OSError) as error:
            self._fail(claim, rule, f"{type(error).__name__}: {error}")
        except Exception as error:  # a bug, or a package's: one study must not end the others
            logger.exception("study %s: an error of ours", claim.study_uid)
            self._fail(claim, rule, f"{type(error).__name__} in the query; see the log")

    def _fail(self, claim: Claim, rule: Rule, message: str, *, last: bool = False) -> None:
        last = last or claim.attempts >= rule.attempts
        logger.error("study %s, attempt %d of %d: %s", claim.study_uid, claim.attempts, rule.attempts, message)
        self._journal.fail(claim, message, again_at=None if last else time.time() + rule.retry_seconds)
        with suppress(OSError):
            self._audit_query(claim, failed=True)

    def _audit_query(self, claim: Claim, *, failed: bool) -> None:
        patient, classes = self._journal.patient(claim.study_uid), self._journal.classes(claim.study_uid)
        self._audit.queried(
            StudyOf(study_uid=claim.study_uid, patient_id=patient, classes=Counter(classes)), failed=failed
        )
