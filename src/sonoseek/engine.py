"""The one corridor: a scan goes in, a Report comes out.

    engine = open_engine("galleries/busi")
    report = engine.query(read_scan("exam.dcm"), k=10)

Everything that answers questions about scans (command line, web page, evaluation) walks through here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    NotFoundError,
    Prediction,
    Report,
    Scan,
    Settings,
)
from sonoseek.encoder import Bundle, Encoder, Encoding, open_encoder, predict, to_input, unpack_evidence
from sonoseek.explain import ASKED, METHODS, class_evidence, draw_contour, pair_evidence, shared_words
from sonoseek.explain.asked import as_explanation
from sonoseek.gallery import Exclusion, Gallery, GalleryEntry, SearchResult, open_gallery
from sonoseek.reports.notes import about_copies, about_the_archive, about_the_scan
from sonoseek.reports.words import likeliest

__all__ = ["Reading", "SearchEngine", "open_engine"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """What the network makes of one scan, before any gallery is asked.

    Attributes:
        scan: as it was given.
        cleaned: its canvas and the way back to its pixels.
        embedding: float32 (D,), not normalised.
        evidence: float32 (D, h, w); its mean over cells is the embedding.
        within: float32 (f·h, g·w), weights: how each cell's evidence lies within it.
        logits: float32 (C,), before the temperature, in the order of the bundle's classes.
        prediction: the verdict.
    """

    scan: Scan
    cleaned: CleanedScan
    embedding: NDArray[np.float32]
    evidence: NDArray[np.float32]
    within: NDArray[np.float32]
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
            within=encoding.within[0],
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
        explain_matches: bool = True,
    ) -> Report:
        """Ask about a scan.

        Args:
            scan: of `read_scan`, or made from pixels.
            k: how many matches at most; 0 for none. More than the gallery holds gives all of it.
            where: filter on the matches, "birads >= '4A' and device = 'GE Logiq 7'"; None for all.
            include_same: also let the scan itself, its patient and its group answer. By default they do not: if the
                scan's pixels are in the gallery, they, their patient and their group are left out; if the scan names a
                patient, that patient is, in whichever dataset.
            explain_matches: also say, for each match, on which pixels of the scan and of the match their cosine rests;
                the verdict's own heatmap always is there.

        Raises:
            InvalidValueError: k below 0.
            WhereError: a filter that does not parse.
        """
        if k < 0:
            raise InvalidValueError(f"k is {k}; it is the number of matches wanted, 0 or more.")
        reading = self.read(scan)
        held = self._holds(scan)
        found = self._search(reading, k=k, where=where, exclude=Exclusion() if include_same else self._own(scan))
        explanations = [self.explain_class(reading)]
        if explain_matches and self.gallery is not None:
            pairs, matches = self._explain_matches(reading, found.matches)
            explanations += pairs
            found = replace(found, matches=matches)
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
                *about_the_scan(
                    scan,
                    reading.prediction,
                    abstain_below=self.bundle.abstain_below,
                    marks=0.0 if (marks := reading.cleaned.marks) is None else float(np.mean(marks)),
                    cleaning=reading.cleaned.warnings,
                ),
                *about_copies(
                    scan,
                    found.matches,
                    found.nearest,
                    held=held,
                    left_out=not include_same,
                    same_scan=self.bundle.same_scan,
                ),
                *(
                    about_the_archive(reading.prediction, found.matches, novelty=found.novelty, k=k, where=where)
                    if self.gallery is not None
                    else ()
                ),
            ),
            bundle_id=self.bundle.bundle_id,
            gallery_id=None if self.gallery is None else self.gallery.gallery_id,
            where=where,
            shared_words=shared_words(found.matches, self.gallery.words) if self.gallery is not None else (),
            contour=draw_contour(explanations[0], spacing_mm=scan.spacing_mm),
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
        name = self._class(reading, target)
        index = self.bundle.classes.index(name)
        return class_evidence(
            reading.evidence,
            weight=self.bundle.head_weight[index],
            bias=float(self.bundle.head_bias[index]),
            mapping=reading.cleaned.mapping,
            target=name,
            within=reading.within,
        )

    def _class(self, reading: Reading, target: str | None) -> str:
        name = likeliest(reading.prediction) if target is None else target
        if name not in self.bundle.classes:
            raise InvalidValueError(f"target is {name!r}; this bundle's classes are {', '.join(self.bundle.classes)}.")
        return name

    def explain(
        self,
        reading: Reading,
        *,
        method: str = "class_evidence",
        target: str | None = None,
        match: GalleryEntry | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Explanation:
        """Explain a class's logit, or the cosine with a match, on the scan's pixels, by any method.

        Args:
            reading: of `read`.
            method: of `explain.METHODS`. "class_evidence", "occlusion" and "rise" explain a class; "pair_evidence",
                "sbsm", "occlusion" and "rise" a match.
            target: a class of the bundle; None: the likeliest.
            match: of the same bundle's gallery; then its cosine with the scan is explained, no class.
            on_progress: (done, total) of methods that ask the network many times.

        Raises:
            NotFoundError: no such method.
            InvalidValueError: no such class; a method that does not explain what was asked for; another bundle's match.
        """
        if method not in METHODS:
            raise NotFoundError(f"no method is called {method!r}; there are: {', '.join(METHODS)}.")
        if match is not None and (target is not None or method == "class_evidence"):
            raise InvalidValueError(
                f"method {method!r} and target {target!r} are of a class, and a match is given; one thing is explained "
                "at a time. Leave the match out, or say pair_evidence, sbsm, occlusion or rise and no target."
            )
        if match is None:
            if method in ("pair_evidence", "sbsm"):
                raise InvalidValueError(f"{method} explains a match, and none is given. Name one, or another method.")
            if method == "class_evidence":
                return self.explain_class(reading, target)
            name = self._class(reading, target)
            index = self.bundle.classes.index(name)
            return self._asked(reading, method, name, lambda said: said.logits[:, index], on_progress)
        if method == "pair_evidence":
            return self._pair(reading, match)
        if match.embedding.shape != reading.embedding.shape:
            raise InvalidValueError(
                f"the match's embedding is {match.embedding.shape}, the scan's {reading.embedding.shape}; their cosine "
                "needs one bundle. Take the match from a gallery that this bundle filled."
            )
        unit = match.embedding / np.linalg.norm(match.embedding)

        def cosine(said: Encoding) -> NDArray[np.floating]:
            lengths = np.linalg.norm(said.embedding, axis=1)
            return np.asarray(said.embedding @ unit / np.maximum(lengths, np.float32(1e-30)))

        return self._asked(reading, method, f"match:{match.scan_id}", cosine, on_progress)

    def _asked(
        self,
        reading: Reading,
        method: str,
        target: str,
        score: Callable[[Encoding], NDArray[np.floating]],
        on_progress: Callable[[int, int], None] | None,
    ) -> Explanation:
        canvas = to_input(reading.cleaned)

        def ask(canvases: NDArray[np.float32]) -> NDArray[np.floating]:
            told: NDArray[np.floating] = score(self.encoder.encode(canvases))
            return told

        cells: NDArray[np.float32] = ASKED.load(method)(canvas, ask, on_progress=on_progress)
        return as_explanation(
            cells,
            mapping=reading.cleaned.mapping,
            method=method,
            target=target,
            explained=float(ask(canvas[np.newaxis])[0]),
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

    def _explain_matches(
        self, reading: Reading, matches: tuple[Match, ...]
    ) -> tuple[list[Explanation], tuple[Match, ...]]:
        """Each match's cosine on the scan's pixels; and the matches, each with it on their own."""
        if self.gallery is None or not matches:
            return [], matches
        entries = self.gallery.entries(scan_ids=[match.scan_id for match in matches], pictures=False)
        kept = {(entry.record.dataset, entry.record.case_id, entry.scan_id): entry for entry in entries}
        pairs, explained = [], []
        for match in matches:
            entry = kept.get((match.dataset, match.case_id, match.scan_id))
            if entry is None:  # another process has removed it since the search
                explained.append(match)
                continue
            pairs.append(self._pair(reading, entry))
            explained.append(replace(match, explanation=_on_the_match(reading, entry)))
        return pairs, tuple(explained)

    def _pair(self, reading: Reading, entry: GalleryEntry) -> Explanation:
        return pair_evidence(
            reading.evidence,
            entry.embedding,
            mapping=reading.cleaned.mapping,
            target=f"match:{entry.scan_id}",
            within=reading.within,
            embedding=reading.embedding,
        )


def _on_the_match(reading: Reading, entry: GalleryEntry) -> Explanation | None:
    """The cosine of scan and match on the match's pixels, from what the gallery keeps; None where it keeps nothing."""
    if entry.evidence is None:
        return None
    kept = unpack_evidence(
        entry.evidence, embedding=entry.embedding, scan_shape=entry.scan_shape, spacing_mm=entry.spacing_mm
    )
    return pair_evidence(
        kept.evidence,
        reading.embedding,
        mapping=kept.mapping,
        target=f"query:{reading.scan.scan_id}",
        within=kept.within,
        embedding=entry.embedding,
    )


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
