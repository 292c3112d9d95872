"""Queries each study once it has been quiet for as long as its rule says. One result a study, also after a crash.

A study is claimed in a transaction, its objects are written and flushed, and one further transaction marks it done and
fills the outbox. Whatever ends in between is begun anew, and writes the same objects: their UIDs follow from the study.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from sonoseek.core import SonoseekError
from sonoseek.pacs.audit import StudyOf
from sonoseek.pacs.journal import Claim
from sonoseek.pacs.outbox_rows import make_parcels
from sonoseek.pacs.query import Tools, query_study
from sonoseek.pacs.rules import Rule
from sonoseek.pacs.state import State
from sonoseek.pacs.waiting import AlarmThread

if TYPE_CHECKING:
    from sonoseek.engine import SearchEngine

logger = logging.getLogger(__name__)


class Worker(AlarmThread):
    """One thread, which sleeps until the next study is due."""

    def __init__(
        self,
        state: State,
        *,
        tools: Tools,
        on_result: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the parts; `start` begins.

        Args:
            state: of the folder.
            tools: the packages that a query takes.
            on_result: called after a result was put into the outbox.
        """
        super().__init__("pacs-worker")
        self._state = state
        self._tools = tools
        self._on_result = on_result
        self._engine: SearchEngine | None = None

    def stop(self) -> None:
        """End after the study that is being queried. Stopping twice is fine."""
        super().stop()
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _run(self) -> None:
        keep_s = self._state.config.listener.keep_days * 86_400
        longest_s = max((max(rule.quiet_seconds, rule.retry_seconds) for rule in self._state.config.rules), default=0.0)
        interrupted = False
        while not self.alarm.stopped:
            try:
                if interrupted:  # what was being queried when the journal could not be used
                    self._state.journal.recover()
                    interrupted = False
                self._state.journal.follow_clock(longest_s)
                if (claim := self._state.journal.claim()) is not None:
                    self.process(claim)
                    continue
                expiry = self._state.journal.next_expiry(keep_s)
                if expiry is not None and expiry <= time.time():
                    self._state.store.remove(*self._state.journal.expire(keep_s))
                    continue
                due = self._state.journal.next_due()
            except Exception:  # a full disk, above all
                logger.exception("the journal could not be used; again in a minute")
                interrupted, due, expiry = True, time.time() + 60.0, None
            self.alarm.wait(until=min((each for each in (due, expiry) if each is not None), default=None))

    def process(self, claim: Claim) -> None:
        """Query one study and write down what came of it."""
        rule = self._state.config.rule(claim.rule)
        if rule is None:
            self._state.journal.fail(
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
                claim, rule, engine=self._engine, tools=self._tools, path=self._state.store.path
            )
            peers = [self._state.config.peer(name) for name in rule.send_to]
            parcels = make_parcels(results, self._state.store, study_uid=claim.study_uid, key=claim.key, peers=peers)
            if self._state.journal.finish(claim, parcels, finding, message=message):
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
        self._state.journal.fail(claim, message, again_at=None if last else time.time() + rule.retry_seconds)
        with suppress(OSError):
            self._audit_query(claim, failed=True)

    def _audit_query(self, claim: Claim, *, failed: bool) -> None:
        patient, classes = self._state.journal.patient(claim.study_uid), self._state.journal.classes(claim.study_uid)
        self._state.audit.queried(
            StudyOf(study_uid=claim.study_uid, patient_id=patient, classes=Counter(classes)), failed=failed
        )
