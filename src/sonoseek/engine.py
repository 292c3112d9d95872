"""The one corridor: a scan goes in, a Report comes out.

    engine = open_engine("galleries/busi")
    report = engine.query(read_scan("exam.dcm"), k=10)

Everything that answers questions about scans (command line, web page, evaluation) walks through here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

import sonoseek
from sonoseek.cleaning import CleanedScan, clean
from sonoseek.core import (
    BundleMismatchError,
    Explanation,
    InvalidValueError,
    Match,
    Prediction,
    Report,
    Scan,
    Settings,
)
from sonoseek.encoder import Bundle, Encoder, open_encoder, predict, to_input
from sonoseek.explain import METHODS, class_evidence, pair_evidence
from sonoseek.gallery import Exclusion, Gallery, SearchResult, open_gallery
from sonoseek.reports.words import UNLIKE_ANYTHING, either, likeliest, percent

__all__ = ["Reading", "SearchEngine", "open_engine"]

SMALL_SIDE = 128
"""Pixels. A scan with a shorter side has lost the speckle and the margins that a verdict rests on."""
MARKS_WORTH_A_WORD = 0.001
"""Share of the scan's pixels. Where more was painted over as burned-in marks, the reader is told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What the network makes of one scan, before any gallery is asked.

    Attributes:
        scan: as it was given.
        cleaned: its canvas and the way back to its pixels.
        embedding: float32 (D,), not normalised.
        evidence: float32 (D, h, w); its mean over cells is the embedding.
        logits: float32 (C,), before the temperature, in the order of the bundle's classes.
        prediction: the verdict.
    """

    scan: Scan
    cleaned: CleanedScan
    embedding: NDArray[np.float32]
    evidence: NDArray[np.float32]
    logits: NDArray[np.float32]
    prediction: Prediction


class SearchEngine:
    """A network and, if there is one, a gallery. Safe for several threads when both are."""

    def __init__(self, encoder: Encoder, gallery: Gallery | None = None) -> None:
        """Put the two together.

        Args:
            encoder: the network.
            gallery: filled by the same bundle, or None: verdict and heatmap alone. The engine's `close` closes it.

        Raises:
            BundleMismatchError: another bundle filled the gallery; its embeddings mean something else.
        """
        if gallery is not None and gallery.bundle_id != encoder.bundle.bundle_id:
            raise BundleMismatchError(
                f"the gallery {gallery.location} was filled by bundle {gallery.bundle_id!r}, this engine speaks for "
                f"{encoder.bundle.bundle_id!r}; their embeddings cannot be compared. Open the engine with the bundle "
                "that filled the gallery, or build the gallery again with this one."
            )
        self.encoder = encoder
        self.gallery = gallery

    @property
    def bundle(self) -> Bundle:
        """Of the network."""
        return self.encoder.bundle

    def read(self, scan: Scan) -> Reading:
        """Clean the scan and run the network once; no gallery, no heatmap."""
        cleaned = clean(scan, self.bundle.recipe)
        encoding = self.encoder.encode(to_input(cleaned)[np.newaxis])
        return Reading(
            scan=scan,
            cleaned=cleaned,
            embedding=encoding.embedding[0],
            evidence=encoding.evidence[0],
            logits=encoding.logits[0],
            prediction=predict(self.bundle, encoding.logits[0], embedding=encoding.embedding[0]),
        )

    def query(
        self,
        scan: Scan,
        *,
        k: int = 10,
        where: str | None = None,
        include_same: bool = False,
        explain: Sequence[str] = ("class_evidence",),
    ) -> Report:
        """Ask about a scan.

        Args:
            scan: of `read_scan`, or made from pixels.
            k: how many matches at most; 0 for none. More than the gallery holds gives all of it.
            where: filter on the matches, "birads >= '4A' and device = 'GE Logiq 7'"; None for all.
            include_same: also let the scan itself, its patient and its group answer. By default they do not: if the
                scan's pixels are in the gallery, they, their patient and their group are left out; if the scan names a
                patient, that patient is, in whichever dataset.
            explain: names in `explain.METHODS`. The verdict's class evidence always comes first; "pair_evidence" adds
                one explanation per match, in the order of the matches, with the target "match:<scan_id>".

        Raises:
            InvalidValueError: k below 0.
            NotFoundError: an unknown explanation.
            WhereError: a filter that does not parse.
        """
        if k < 0:
            raise InvalidValueError(f"k is {k}; it is the number of matches wanted, 0 or more.")
        for name in explain:
            if name not in METHODS:
                METHODS.load(name)  # raises, naming what there is
        reading = self.read(scan)
        held = self._holds(scan)
        found = self._search(reading, k=k, where=where, exclude=Exclusion() if include_same else self._own(scan))
        explanations = [self.explain_class(reading)]
        if "pair_evidence" in explain:
            explanations += self._explain_matches(reading, found.matches)
        top = likeliest(reading.prediction)
        alike = sum(match.label == top for match in found.matches)
        agreement = alike / len(found.matches) if found.matches else None
        return Report(
            scan=scan,
            prediction=reading.prediction,
            matches=found.matches,
            explanations=tuple(explanations),
            agreement=agreement,
            novelty=found.novelty,
            warnings=(
                *_about_the_scan(reading, abstain_below=self.bundle.abstain_below),
                *_about_copies(scan, found, held=held, left_out=not include_same, same_scan=self.bundle.same_scan),
                *(() if self.gallery is None else _about_the_archive(reading, found, k=k, where=where)),
            ),
            bundle_id=self.bundle.bundle_id,
            gallery_id=None if self.gallery is None else self.gallery.gallery_id,
            where=where,
            version=sonoseek.__version__,
            created=datetime.now(UTC),
        )

    def explain_class(self, reading: Reading, target: str | None = None) -> Explanation:
        """The exact heatmap of one class's logit.

        Args:
            reading: of `read`.
            target: a class of the bundle; None: the likeliest.

        Raises:
            InvalidValueError: no such class.
        """
        name = likeliest(reading.prediction) if target is None else target
        if name not in self.bundle.classes:
            raise InvalidValueError(f"target is {name!r}; this bundle's classes are {', '.join(self.bundle.classes)}.")
        index = self.bundle.classes.index(name)
        return class_evidence(
            reading.evidence,
            weight=self.bundle.head_weight[index],
            bias=float(self.bundle.head_bias[index]),
            mapping=reading.cleaned.mapping,
            target=name,
        )

    def close(self) -> None:
        """Close the gallery, if there is one. Closing twice is fine."""
        if self.gallery is not None:
            self.gallery.close()

    def __enter__(self) -> Self:
        """For `with open_engine(...) as engine:`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _holds(self, scan: Scan) -> bool:
        """Whether the gallery has these very pixels."""
        return self.gallery is not None and bool(self.gallery.entries(scan_ids=[scan.scan_id], pictures=False))

    def _own(self, scan: Scan) -> Exclusion:
        """The scan itself, its patient and group, and the patient that it names, in whichever dataset."""
        if self.gallery is None:
            return Exclusion()
        return self.gallery.exclusion_for(scan.scan_id, patient_id=scan.patient_id)

    def _search(self, reading: Reading, *, k: int, where: str | None, exclude: Exclusion) -> SearchResult:
        if self.gallery is None:
            return SearchResult(matches=())
        if not reading.embedding.any():  # no direction, so no cosine with anything
            return SearchResult(matches=(), novelty=100.0)
        return self.gallery.search(reading.embedding, k=k, where=where, exclude=exclude or None)

    def _explain_matches(self, reading: Reading, matches: tuple[Match, ...]) -> list[Explanation]:
        if self.gallery is None or not matches:
            return []
        entries = self.gallery.entries(scan_ids=[match.scan_id for match in matches])
        embeddings = {entry.scan_id: entry.embedding for entry in entries}
        mapping = reading.cleaned.mapping
        return [
            pair_evidence(reading.evidence, embeddings[name], mapping=mapping, target=f"match:{name}")
            for name in (match.scan_id for match in matches)
            if name in embeddings  # another process may have removed it since the search
        ]


def open_engine(
    gallery: Path | str | None = None, *, bundle: Bundle | Path | str | None = None, threads: int = 0
) -> SearchEngine:
    """Open everything that a query needs.

    Args:
        gallery: where it lies ("galleries/busi"), opened for reading; None: verdict and heatmap alone.
        bundle: a bundle or its folder; None: the one that `SONOSEEK_BUNDLE` names, else the one that ships.
        threads: cores for the network; 0: as `SONOSEEK_THREADS` says, else all.

    Raises:
        BundleError: the bundle is incomplete, damaged, or of an unknown version.
        BundleMismatchError: another bundle filled the gallery.
        NotFoundError, GalleryError, TemporaryError: as `open_gallery`.
    """
    opened = None if gallery is None else open_gallery(gallery)
    try:
        return SearchEngine(open_encoder(bundle, threads=threads or Settings.from_environment().threads), opened)
    except BaseException:
        if opened is not None:
            opened.close()
        raise


def _about_the_scan(reading: Reading, *, abstain_below: float) -> list[str]:
    """What the reader should know about the picture and the verdict."""
    scan, prediction = reading.scan, reading.prediction
    said = []
    if prediction.unfamiliar:
        said.append(_about_a_stranger(prediction.unfamiliarity or 0.0))
    elif prediction.label is None:
        top = likeliest(prediction)
        said.append(
            f"The network is not sure: {top} is likeliest with {percent(prediction.probabilities[top])}, less than the "
            f"{percent(abstain_below)} at which this bundle commits itself."
        )
    if min(scan.shape) < SMALL_SIDE:
        said.append(
            f"The scan is small ({scan.shape[1]} × {scan.shape[0]} pixels): fine texture and margins are lost. "
            "Give the original picture if there is one."
        )
    marks = reading.cleaned.marks
    share = 0.0 if marks is None else np.count_nonzero(marks) / marks.size
    if share >= MARKS_WORTH_A_WORD:
        said.append(
            f"Burned-in text or calipers were painted over before the network looked ({share * 100:.1f} % of the scan)."
        )
    said += [f"Cleaning: {warning.rstrip('.')}." for warning in reading.cleaned.warnings]
    if scan.spacing_mm is None:
        said.append("The size of a pixel is not known: nothing can be given in millimetres.")
    return said


def _about_a_stranger(unfamiliarity: float) -> str:
    """Why there is no verdict on a picture unlike the training scans."""
    times = f"{unfamiliarity:.1f}" if unfamiliarity < 100 else "over 100"
    return (
        f"This picture is unlike anything the network was trained on: it lies {times} times as far from the training "
        "scans as nearly all new scans of their kind do. No verdict is given, however sure the probabilities look; "
        "trust neither them nor the matches."
    )


def _about_copies(scan: Scan, found: SearchResult, *, held: bool, left_out: bool, same_scan: float) -> list[str]:
    """What the reader should know when the archive holds the scan that is asked about, as it is or nearly.

    Args:
        scan: that is asked about.
        found: for it.
        held: whether its very pixels are in the archive.
        left_out: whether they, their patient and their group were kept from answering.
        same_scan: cosine from which on two scans are likely one, as the bundle says.
    """
    if held and left_out:
        return ["The archive holds this very scan; it, its patient and its group were left out of the matches."]
    if held:
        listed = any(match.scan_id == scan.scan_id for match in found.matches)
        return [f"The archive holds this very scan; it is {'' if listed else 'not '}among the matches."]
    likely = "The archive likely holds this very scan under another name"
    if found.matches and found.matches[0].similarity >= same_scan:
        return [f"{likely} (similarity {found.matches[0].similarity:.3f}): that match is no independent precedent."]
    if found.nearest is not None and 1.0 - found.nearest >= same_scan:
        return [f"{likely} (similarity {1.0 - found.nearest:.3f}); it is not among the matches."]
    return []


def _about_the_archive(reading: Reading, found: SearchResult, *, k: int, where: str | None) -> list[str]:
    """What the reader should know about the precedents."""
    said = []
    if found.novelty is not None and found.novelty >= UNLIKE_ANYTHING:
        said.append(
            f"This scan is unlike anything in the archive (novelty percentile {found.novelty:.0f}): trust neither the "
            "verdict nor the matches."
        )
    said += _near_copies(found.matches)
    said += _disagreement(reading.prediction, found.matches)
    if len(found.matches) < k:
        why = "pass the filter" if where is not None else "are in the archive"
        said.append(f"Only {len(found.matches)} of the {k} matches asked for {why}.")
    return said


def _near_copies(matches: tuple[Match, ...]) -> list[str]:
    """One sentence where matches share a group: they are not so many precedents."""
    counts = Counter((match.dataset, match.group) for match in matches if match.group is not None)
    shared = {group: count for (_, group), count in counts.items() if count > 1}
    if not shared:
        return []
    named = ", ".join(f"group {group}: {count}" for group, count in shared.items())
    return [
        f"{sum(shared.values())} of the {len(matches)} matches are near-copies of one another, or belong together "
        f"otherwise ({named}): count each group as one precedent."
    ]


def _independent(matches: tuple[Match, ...]) -> list[Match]:
    """The best match of each group, and every match without a group."""
    first: dict[tuple[str, str] | int, Match] = {}
    for match in matches:
        first.setdefault(match.rank if match.group is None else (match.dataset, match.group), match)
    return list(first.values())


def _disagreement(prediction: Prediction, matches: tuple[Match, ...]) -> list[str]:
    """One sentence when most of three or more independent matches carry another class than the likeliest."""
    top = likeliest(prediction)
    labels = [match.label for match in _independent(matches)]
    against = [label for label in sorted(set(labels)) if label != top and 2 * labels.count(label) > len(labels)]
    if len(labels) < 3 or not against:
        return []
    kind = "matches" if len(labels) == len(matches) else "independent matches"
    return [
        f"The network and the precedents disagree: it finds {top} likeliest, {labels.count(against[0])} of "
        f"{len(labels)} {kind} are {either(against)}."
    ]
