"""The search engine: a network and a gallery, queries and explanations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Self, Unpack

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import (
    Box,
    Explanation,
    InvalidValueError,
    NotFoundError,
    Report,
    ReportWarning,
    Scan,
    SearchKeywords,
    SearchOptions,
)
from sonoseek.encoder import ArchiveCalibration, Bundle, Encoder, Encoding, calibrated
from sonoseek.engine.answer import answer, explain_class, required
from sonoseek.engine.encoded_scan import EncodedScan, from_entry, read_with
from sonoseek.explain import METHODS, PERTURBATION
from sonoseek.explain.perturbation import as_explanation
from sonoseek.gallery import Gallery, GalleryEntry
from sonoseek.reports import warnings


class SearchEngine:
    """A network and, if there is one, a gallery. Safe for several threads when both are."""

    def __init__(
        self, encoder: Encoder, gallery: Gallery | None = None, *, calibration: ArchiveCalibration | None = None
    ) -> None:
        """Combine them.

        Args:
            encoder: the network.
            gallery: filled by the same bundle, or None: prediction and heatmap alone. The engine's `close` closes it.
            calibration: fitted on an archive's cases, in the place of the bundle's; None: the bundle's. One that was
                fitted for another bundle is not used, and every report warns of it.

        Raises:
            BundleMismatchError: another bundle filled the gallery; its embeddings mean something else.
        """
        if gallery is not None:
            gallery.check_bundle(encoder.bundle.bundle_id)
        self.encoder = encoder
        self.gallery = gallery
        self._bundle = encoder.bundle
        self._standing: tuple[ReportWarning, ...] = ()
        if calibration is not None and calibration.bundle_id != encoder.bundle.bundle_id:
            self._standing = (warnings.calibration_unused(calibration.bundle_id),)
        elif calibration is not None:
            self._bundle = calibrated(encoder.bundle, calibration)

    @property
    def bundle(self) -> Bundle:
        """Of the network, with the calibration that predictions are made by."""
        return self._bundle

    def read(self, scan: Scan, *, crop: Box | None = None, lesion: Box | None = None) -> EncodedScan:
        """Preprocess the scan and run the network once; no gallery, no heatmap.

        Args:
            scan: of `read_scan`, or made from pixels.
            crop: the scan area as a reader drew it, in scan pixels, where preprocessing finds a wrong one; None: find
                it.
            lesion: the reader's mark: a box around the lesion, in scan pixels, for bundles whose `reads_marks` is
                true; the network's close-up is cut around it. What lies outside the scan, or outside what the network
                sees of it, is cut off. None: the network's own estimate.

        Raises:
            InvalidValueError: a crop outside the scan, or one that leaves too little of it; a mark outside the scan or
                outside the network's input; a mark for a bundle that reads none.
        """
        return read_with(self.encoder, scan, bundle=self.bundle, crop=crop, lesion=lesion)

    def query(
        self,
        scan: Scan | EncodedScan | Sequence[Scan | EncodedScan],
        options: SearchOptions | None = None,
        *,
        lesion: Box | None = None,
        **keywords: Unpack[SearchKeywords],
    ) -> Report:
        """Search with a scan, or with several views of one lesion as one.

        Args:
            scan: of `read_scan`, or made from pixels; or several of them: the prediction and the search are then of
                all together, the report's heatmaps lie on the first, and `Report.views` holds the others. What `read`
                made of a scan may stand for it: then the network is not run again.
            options: how to search; None: the defaults of `SearchOptions`.
            lesion: the reader's mark on the scan, as in `read`: prediction, evidence and search are then of the scan
                as it is read with the mark. Of one scan alone: several views are each read with their own,
                `engine.query([engine.read(scan, lesion=box), …])`.
            keywords: fields of `SearchOptions`, in place of those of `options`: `engine.query(scan, k=5)`.

        Raises:
            InvalidValueError: an option that breaks its rule; a region outside the scan; a mark that `read` refuses,
                or of a scan that the archive holds; a region or a mark of several views.
            NotFoundError: a liked or disliked scan that is not in the gallery.
            WhereError: a filter that does not parse.
        """
        options = SearchOptions.of(options, keywords)
        views = [scan] if isinstance(scan, Scan | EncodedScan) else list(scan)
        if lesion is not None:
            views = [self._marked(views, lesion)]
        encoded = [each if isinstance(each, EncodedScan) else self.read(each) for each in views]
        return answer(self.bundle, self.gallery, encoded, options, standing=self._standing)

    def _marked(self, views: Sequence[Scan | EncodedScan], lesion: Box) -> EncodedScan:
        """The one view, read with a mark."""
        if len(views) != 1:
            raise InvalidValueError(
                f"a marked lesion and {len(views)} views are given; the mark is of one scan. Read each view with its "
                "own, engine.read(scan, lesion=box), and query with the results."
            )
        (view,) = views
        if isinstance(view, Scan):
            return self.read(view, lesion=lesion)
        if view.preprocessed is None:
            raise InvalidValueError(
                f"a lesion is marked on scan {view.scan.scan_id}, which comes from the archive; the archive stores "
                "the encoding of a scan and not its pixels. Query with the scan's file, or leave the mark out."
            )
        return self.read(view.scan, crop=view.crop, lesion=lesion)

    def query_case(
        self,
        dataset: str,
        case_id: str,
        options: SearchOptions | None = None,
        *,
        scan_ids: Iterable[str] = (),
        **keywords: Unpack[SearchKeywords],
    ) -> Report:
        """Search with a case of the gallery: from what the gallery keeps, without files and without the network.

        Args:
            dataset: of the case.
            case_id: of the case.
            options: as in `query`.
            scan_ids: these of its scans alone; none: all of them, as views of one lesion.
            keywords: as in `query`.

        Raises:
            NotFoundError: no such case, or scan of it.
            GalleryError: the gallery keeps no evidence or picture of it.
            InvalidValueError, WhereError: as in `query`; and there is no gallery.
        """
        options = SearchOptions.of(options, keywords)
        encoded = self.read_case(dataset, case_id, scan_ids=scan_ids)
        return answer(self.bundle, self.gallery, encoded, options, standing=self._standing)

    def read_case(self, dataset: str, case_id: str, *, scan_ids: Iterable[str] = ()) -> tuple[EncodedScan, ...]:
        """The encoded scans of a case of the gallery; the network is not run.

        Args:
            dataset: of the case.
            case_id: of the case.
            scan_ids: these of its scans alone; none: all of them.

        Raises:
            NotFoundError: no such case, or scan of it.
            GalleryError: the gallery keeps no evidence or picture of it.
            InvalidValueError: there is no gallery.
        """
        gallery = required(self.gallery, f"case {case_id!r}")
        wanted = tuple(scan_ids)
        entries = [e for e in gallery.entries(cases=[(dataset, case_id)]) if not wanted or e.scan_id in wanted]
        if not entries or {entry.scan_id for entry in entries} < set(wanted):
            raise NotFoundError(
                f"the gallery {gallery.location} holds no case {case_id!r} of {dataset!r}"
                + (f" with scans {', '.join(wanted)}" if wanted else "")
                + "; cases are named DATASET/CASE, as matches are."
            )
        return tuple(from_entry(self.bundle, entry) for entry in entries)

    def explain_class(self, encoded: EncodedScan, target: str | None = None) -> Explanation:
        """The exact heatmap of one class's logit.

        Args:
            encoded: of `read`.
            target: a class of the bundle; None: the likeliest.

        Raises:
            InvalidValueError: no such class.
        """
        return explain_class(self.bundle, encoded, self._class(encoded, target))

    def _class(self, encoded: EncodedScan, target: str | None) -> str:
        name = encoded.prediction.likeliest if target is None else target
        if name not in self.bundle.classes:
            raise InvalidValueError(f"target is {name!r}; this bundle's classes are {', '.join(self.bundle.classes)}.")
        return name

    def explain(
        self,
        encoded: EncodedScan,
        *,
        method: str = "class_evidence",
        target: str | None = None,
        match: GalleryEntry | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Explanation:
        """Explain a class's logit, or the cosine with a match, on the scan's pixels, by any method.

        Args:
            encoded: of `read`.
            method: of `explain.METHODS`. "class_evidence", "occlusion" and "rise" explain a class; "pair_evidence",
                "sbsm", "occlusion" and "rise" a match.
            target: a class of the bundle; None: the likeliest.
            match: of the same bundle's gallery; then its cosine with the scan is explained, no class.
            on_progress: (done, total) of methods that run the network many times.

        Raises:
            NotFoundError: no such method.
            InvalidValueError: no such class; a method that does not explain a class, or a match; another bundle's
                match.
        """
        if method not in METHODS:
            raise NotFoundError(f"no method is called {method!r}; there are: {', '.join(METHODS)}.")
        if match is not None and (target is not None or method == "class_evidence"):
            raise InvalidValueError(
                f"method {method!r} and target {target!r} are of a class, and a match is given; one thing is explained "
                "at a time. Leave the match out, or choose pair_evidence, sbsm, occlusion or rise and no target."
            )
        if match is None:
            if method in ("pair_evidence", "sbsm"):
                raise InvalidValueError(f"{method} explains a match, and none is given. Name one, or another method.")
            if method == "class_evidence":
                return self.explain_class(encoded, target)
            name = self._class(encoded, target)
            index = self.bundle.classes.index(name)
            return self._perturbed(encoded, method, name, lambda encoding: encoding.logits[:, index], on_progress)
        if method == "pair_evidence":
            return encoded.explain_cosine(match.embedding, target=f"match:{match.scan_id}")
        if match.embedding.shape != encoded.embedding.shape:
            raise InvalidValueError(
                f"the match's embedding is {match.embedding.shape}, the scan's {encoded.embedding.shape}; their cosine "
                "needs one bundle. Take the match from a gallery that this bundle filled."
            )
        unit = match.embedding / np.linalg.norm(match.embedding)

        def cosine(encoding: Encoding) -> NDArray[np.floating]:
            lengths = np.linalg.norm(encoding.embedding, axis=1)
            return np.asarray(encoding.embedding @ unit / np.maximum(lengths, np.float32(1e-30)))

        return self._perturbed(encoded, method, f"match:{match.scan_id}", cosine, on_progress)

    def _perturbed(
        self,
        encoded: EncodedScan,
        method: str,
        target: str,
        score: Callable[[Encoding], NDArray[np.floating]],
        on_progress: Callable[[int, int], None] | None,
    ) -> Explanation:
        canvas = encoded.canvas

        def score_fn(canvases: NDArray[np.float32]) -> NDArray[np.floating]:
            return score(encoded.encode_with(self.encoder, canvases))

        cells: NDArray[np.float32] = PERTURBATION.load(method)(canvas, score_fn, on_progress=on_progress)
        return as_explanation(
            cells,
            mapping=encoded.mapping,
            method=method,
            target=target,
            value=float(score_fn(canvas[np.newaxis])[0]),
        )

    def close(self) -> None:
        """Close the gallery, if there is one. Closing twice is fine."""
        if self.gallery is not None:
            self.gallery.close()

    def __enter__(self) -> Self:
        """For `with open_engine(...) as engine:`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
