"""Filling a gallery from a dataset: read, preprocess, encode, store.

    with create_gallery(
        "galleries/busi", bundle_id=..., dimension=..., duplicate_threshold=bundle.duplicate_threshold, exist_ok=True
    ) as gallery:
        result = build_index(open_dataset("busi", root), gallery, open_encoder(threads=1), on_progress=bar)

Each worker thread takes whole cases from file to embedding. Preprocessing and the network release Python's lock, and
files are decoded in separate processes. So one worker more than there are cores keeps all of them busy, sharing a
one-thread network, and nothing waits for a batch to fill. One thread writes, in the dataset's order, so that the result
does not depend on timing.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from sonoseek.core import (
    BundleError,
    CaseRecord,
    GalleryError,
    InvalidValueError,
    Scan,
    SiteKeyError,
    SonoseekError,
    TemporaryError,
)
from sonoseek.core.cores import available_cores
from sonoseek.core.patients import patient_warnings
from sonoseek.datasets import Dataset
from sonoseek.encoder import Encoder, encode_scan, pack_evidence
from sonoseek.gallery import AddResult, CaseKey, Gallery, GalleryEntry
from sonoseek.gallery.pseudonyms import note_site_key
from sonoseek.indexing.case_ids import CaseIds, CaseNames, choose_names, note_files
from sonoseek.indexing.kept_picture import kept_picture
from sonoseek.preprocessing.threads import single_threaded_opencv

__all__ = ["BuildResult", "Outcome", "Refusal", "build_index", "fill", "make_entry", "take_case"]

logger = logging.getLogger(__name__)

BATCH = 64
"""Scans per write: each write waits for the disk, and an interrupted build loses at most what is not yet written."""
AHEAD = 8
"""Cases per worker that may be finished or under way before the writer takes them: bounds the memory."""

Progress = Callable[[int, int], None]
Item = tuple[CaseRecord, str]
"""A case to read, and the fingerprint of its files."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A case that was left out, and why. `source` is "dataset/case_id"."""

    source: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a build did.

    Attributes:
        added, updated, unchanged: scans. A case that its fingerprint showed to be unchanged counts as one.
        removed: scans that a changed case no longer has.
        warnings: about patient ids: placeholders among the cases that were read, and patients who hold more than half
            of one of the datasets in the gallery.
        refused: cases left out, in the dataset's order.
        seconds: wall clock.
    """

    added: int
    updated: int
    unchanged: int
    refused: tuple[Refusal, ...]
    seconds: float
    removed: int = 0
    warnings: tuple[str, ...] = ()


def build_index(
    dataset: Dataset,
    gallery: Gallery,
    encoder: Encoder,
    *,
    on_progress: Progress | None = None,
    workers: int = 0,
    case_ids: CaseIds = "opaque",
) -> BuildResult:
    """Put every case of `dataset` into `gallery`.

    Continues where it was stopped: cases whose files have the fingerprint that the gallery remembers are skipped
    unread; scans whose very pixels the gallery holds are not encoded again. Cases that are no longer in the dataset
    stay in the gallery. A case that cannot be read is refused, with a reason, and the build goes on.

    Args:
        dataset: of `open_dataset`.
        gallery: open for writing, of the encoder's bundle.
        encoder: the network; with `threads=1` for the highest throughput, since the workers share it.
        on_progress: called with (cases done, cases in all), from this thread, in order.
        workers: threads; 0: one more than the cores that this process may use.
        case_ids: of one's own archive: "opaque", or "names" of files; see `sonoseek.indexing.case_ids`.

    Raises:
        BundleMismatchError: another bundle filled the gallery.
        GalleryError, TemporaryError: the gallery cannot be written; what was written before stays.
        KeyboardInterrupt: as it came; cases finished until then are written, and the gallery is consistent.
    """
    if workers < 0:
        raise InvalidValueError(f"workers is {workers}; it must be 0 (one more than the cores) or more.")
    gallery.check_bundle(encoder.bundle.bundle_id)
    lookup = gallery.count() > 0

    def take(item: Item) -> Outcome:
        return take_case(dataset, encoder, item, gallery=gallery if lookup else None)

    def work(waiting: Sequence[Item]) -> Generator[Outcome]:
        return _in_order(take, waiting, workers=workers or available_cores() + 1)

    with single_threaded_opencv():
        return fill(dataset, gallery, work, on_progress=on_progress, case_ids=case_ids)


def fill(
    dataset: Dataset,
    gallery: Gallery,
    work: Callable[[Sequence[Item]], Generator[Outcome]],
    *,
    on_progress: Progress | None = None,
    case_ids: CaseIds = "opaque",
) -> BuildResult:
    """Write what `work` makes of the cases that changed: the part of a build that is the same wherever it embeds.

    Args:
        dataset: of `open_dataset`.
        gallery: open for writing.
        work: from the cases to read to one outcome for each, in any order; closed when the build ends or fails.
        on_progress: as in `build_index`.
        case_ids: as in `build_index`.

    Raises:
        GalleryError, TemporaryError, KeyboardInterrupt: as in `build_index`; and what `work` and `on_progress` raise.
            Cases finished until then are written, unless the gallery itself is the trouble.
    """
    started = time.perf_counter()
    names_in_gallery = choose_names(dataset, gallery, case_ids)
    build = _Build(dataset=dataset, gallery=gallery, lookup=gallery.count() > 0, names=names_in_gallery)
    records = dataset.records()
    waiting = list(build.changed(records))
    done = len(records) - len(waiting)
    build.written += AddResult(unchanged=done)
    if on_progress is not None:
        on_progress(done, len(records))
    try:
        with contextlib.closing(work(waiting)) as outcomes:
            for outcome in outcomes:
                build.keep(outcome)
                done += 1
                if on_progress is not None:
                    on_progress(done, len(records))
    except BaseException:  # an interrupt, a stop, or trouble with a later case: what was finished is kept
        build.flush()
        build.note_files()
        raise
    build.flush()
    build.note_files()
    written = build.written
    names = {record.dataset for record in records}
    shares = [share for share in gallery.largest_patients() if share.dataset in names]
    place = {f"{record.dataset}/{record.case_id}": number for number, record in enumerate(records)}
    return BuildResult(
        added=written.added,
        updated=written.updated,
        unchanged=written.unchanged,
        removed=written.removed,
        refused=tuple(sorted(build.refused, key=lambda refusal: place[refusal.source])),
        seconds=time.perf_counter() - started,
        warnings=(
            *patient_warnings(shares, build.placeholders),
            *_old_pseudonyms(gallery),
            *names_in_gallery.warnings,
        ),
    )


def _old_pseudonyms(gallery: Gallery) -> Iterator[str]:
    """A warning where scans of one patient may carry two pseudonyms."""
    if gallery.site_key is not None and (cases := gallery.count_unkeyed()):
        yield (
            f"{cases} cases of the gallery have pseudonyms from before there was a site key: scans of one patient may "
            "carry two. Run `sonoseek index rekey` on it."
        )


def make_entry(scan: Scan, record: CaseRecord, encoder: Encoder, *, fingerprint: str = "") -> GalleryEntry:
    """One scan as a gallery keeps it: preprocessed, encoded, with its picture.

    Args:
        scan: of the case.
        record: what is known about the case.
        encoder: of the gallery's bundle.
        fingerprint: of the case's files, "" when unknown.

    Raises:
        InvalidValueError: the network gives the scan no usable embedding.
    """
    preprocessed, encoding = encode_scan(encoder, scan)
    sought = encoder.bundle.recipe.borders and encoder.bundle.recipe.marks
    return GalleryEntry(
        record=record,
        scan_id=scan.scan_id,
        embedding=encoding.embedding[0],
        evidence=pack_evidence(encoding.evidence[0], encoding.spatial_weights[0], mapping=preprocessed.mapping),
        picture=kept_picture(scan, preprocessed if sought else None),
        scan_shape=scan.shape,
        spacing_mm=scan.spacing_mm,
        laterality=scan.laterality,
        view=scan.view,
        source=scan.source,
        fingerprint=fingerprint,
    )


def take_case(dataset: Dataset, encoder: Encoder, item: Item, *, gallery: Gallery | None = None) -> Outcome:
    """One case from its files to its entries. Never raises for what is the case's own fault.

    Args:
        dataset: that has the case.
        encoder: of the gallery's bundle.
        item: the case and its fingerprint.
        gallery: where to look for scans that are embedded already; None: embed all.

    Raises:
        GalleryError, TemporaryError, BundleError: what every other case would fail of as well.
    """
    record, fingerprint = item
    source = f"{record.dataset}/{record.case_id}"
    try:
        case = dataset.load(record.case_id, masks=False)
        scans, record = case.scans, replace(record, patient_id=case.patient_id)  # a DICOM file may know the patient
        wanted = [scan.scan_id for scan in scans]
        stored = () if gallery is None else gallery.entries(scan_ids=wanted, pictures=False)
        # The canvas depends on the spacing too: a corrected spacing is encoded anew.
        encoded = {
            (entry.scan_id, entry.spacing_mm): entry
            for entry in stored
            if entry.evidence is not None  # of an older gallery: the scan is encoded again
        }
        entries = tuple(
            _entry_again(known, scan, record, fingerprint=fingerprint)
            if (known := encoded.get((scan.scan_id, scan.spacing_mm)))
            else make_entry(scan, record, encoder, fingerprint=fingerprint)
            for scan in scans
        )
    except (GalleryError, TemporaryError, BundleError, SiteKeyError):
        raise  # not this case's fault: every other one would fail as well
    except (SonoseekError, OSError) as error:
        return Outcome(source=source, reason=str(error) or type(error).__name__)
    except Exception as error:  # one bad file never stops a thousand good ones, whatever it breaks
        logger.warning("%s was refused after an unexpected error", source, exc_info=True)
        return Outcome(source=source, reason=f"unexpected {type(error).__name__}: {error}")
    return Outcome(
        source=source,
        entries=entries,
        placeholders=tuple(scan.patient_placeholder for scan in scans if scan.patient_placeholder),
    )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one case: entries, or why there are none; `placeholders`: patient ids that name nobody."""

    source: str
    entries: tuple[GalleryEntry, ...] = ()
    reason: str | None = None
    placeholders: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Build:
    """One build under way, in the thread that called `fill`."""

    dataset: Dataset
    gallery: Gallery
    lookup: bool
    names: CaseNames
    pending: list[Outcome] = field(default_factory=list)
    written: AddResult = field(default_factory=AddResult)
    refused: list[Refusal] = field(default_factory=list)
    placeholders: Counter[str] = field(default_factory=Counter)
    there: set[CaseKey] = field(default_factory=set)
    """Cases, by their own names, that the gallery has."""

    def changed(self, records: Sequence[CaseRecord]) -> Iterator[Item]:
        """The cases to read, each with its fingerprint; those that the gallery has as they are, are left out."""
        names = {record.dataset for record in records} if self.lookup else set()
        known = {name: self.gallery.fingerprints(name) for name in names}
        for record in records:
            try:
                fingerprint = self.dataset.fingerprint(record.case_id)
            except (SonoseekError, OSError):
                fingerprint = ""  # its file is gone or unreadable: loading will report it
            fingerprint = self.names.fingerprint(record, fingerprint)
            if not fingerprint or known.get(record.dataset, {}).get(self.names.of(record)) != fingerprint:
                yield record, fingerprint
            else:
                self.there.add((record.dataset, record.case_id))

    def keep(self, outcome: Outcome) -> None:
        """Take an outcome in, and write when enough have come together."""
        if outcome.reason is not None:
            self.refused.append(Refusal(source=outcome.source, reason=outcome.reason))
            return
        self.placeholders.update(outcome.placeholders)
        self.pending.append(outcome)
        if sum(len(each.entries) for each in self.pending) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting: all at once, or, if the gallery cannot keep one of them, case by case."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        try:
            given = list(itertools.chain.from_iterable(each.entries for each in pending))
            entries = [self.names.renamed(entry) for entry in given]
            note_site_key(self.gallery, (entry.record.patient_id for entry in entries))
            self.written += self.gallery.add(entries, whole_cases=True)
            self.there.update((entry.record.dataset, entry.record.case_id) for entry in given)
        except InvalidValueError as error:
            if len(pending) == 1:
                self.refused.append(Refusal(source=pending[0].source, reason=str(error)))
                return
            for each in pending:
                self.pending = [each]
                self.flush()

    def note_files(self) -> None:
        """Say in the private table which file each opaque case of the gallery is."""
        if files := [(key[0], case_id, key[1]) for key, case_id in self.names.ids.items() if key in self.there]:
            note_files(self.gallery.location, files)


def _entry_again(known: GalleryEntry, scan: Scan, record: CaseRecord, *, fingerprint: str) -> GalleryEntry:
    """An entry whose embedding and evidence are stored already."""
    return replace(
        known,
        record=record,
        picture=kept_picture(scan),
        scan_shape=scan.shape,
        laterality=scan.laterality,
        view=scan.view,
        source=scan.source,
        fingerprint=fingerprint,
    )


def _in_order(work: Callable[[Item], Outcome], items: Sequence[Item], *, workers: int) -> Generator[Outcome]:
    """Run `work` over `items` in threads; yield the outcomes in the order of `items`, never more than a few ahead."""
    remaining = iter(items)
    running: deque[Future[Outcome]] = deque()
    executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="sonoseek-build")
    try:
        for item in itertools.islice(remaining, workers * AHEAD):
            running.append(executor.submit(work, item))
        while running:
            outcome = running.popleft().result()
            for item in itertools.islice(remaining, 1):
                running.append(executor.submit(work, item))
            yield outcome
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
