"""A scan as the network encodes it, before any search: from pixels, or from what an archive stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Box, Explanation, GalleryError, InvalidValueError, Prediction, Scan
from sonoseek.encoder import Bundle, Encoder, Encoding, predict, to_input, unpack_evidence
from sonoseek.explain import pair_evidence
from sonoseek.gallery import GalleryEntry, decode_picture
from sonoseek.preprocessing import CanvasMapping, PreprocessedScan, preprocess


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedScan:
    """One scan as the network encodes it, before any search.

    Attributes:
        scan: as it was given, or as the archive shows it.
        crop: the scan area as the reader drew it, or None: preprocessing found it.
        lesion: the reader's mark, in scan pixels, as far as the network sees it, or None: read without one.
        preprocessed: the preprocessed scan; None where the encoding comes from the archive.
        mapping: from the scan's pixels to the canvas and back.
        embedding: float32 (D,), not normalised.
        evidence: float32 (D, h, w); its mean over cells is the embedding.
        spatial_weights: float32 (f·h, g·w): how the evidence is distributed within each cell.
        logits: float32 (C,), before the temperature, in the order of the bundle's classes.
        prediction: of this scan alone.
    """

    scan: Scan
    crop: Box | None = None
    lesion: Box | None = None
    preprocessed: PreprocessedScan | None
    mapping: CanvasMapping
    embedding: NDArray[np.float32]
    evidence: NDArray[np.float32]
    spatial_weights: NDArray[np.float32]
    logits: NDArray[np.float32]
    prediction: Prediction

    @property
    def canvas(self) -> NDArray[np.float32]:
        """The model input: float32 (1, S, S).

        Raises:
            InvalidValueError: it comes from an archive, which stores no model input.
        """
        if self.preprocessed is None:
            raise InvalidValueError(
                f"scan {self.scan.scan_id} comes from the archive, which stores the encoding and not the model "
                "input. Read the scan from its file."
            )
        return to_input(self.preprocessed)

    @property
    def marks(self) -> float:
        """Share of the scan that was painted over as burned-in annotations, 0 … 1."""
        annotations = None if self.preprocessed is None else self.preprocessed.annotations
        return 0.0 if annotations is None else float(np.mean(annotations))

    def encode_with(self, encoder: Encoder, canvases: NDArray[np.float32]) -> Encoding:
        """Run a network on changed copies of this scan's canvas, float32 (N, 1, S, S), under the scan's own mark."""
        return _encode(encoder, canvases, lesion=self.lesion, mapping=self.mapping)

    def explain_cosine(self, other: NDArray[np.floating], *, target: str) -> Explanation:
        """The exact heatmap of the cosine with another embedding (D,)."""
        return pair_evidence(
            self.evidence,
            other,
            mapping=self.mapping,
            target=target,
            spatial_weights=self.spatial_weights,
            embedding=self.embedding,
        )


def read_with(
    encoder: Encoder, scan: Scan, *, bundle: Bundle, crop: Box | None = None, lesion: Box | None = None
) -> EncodedScan:
    """Preprocess the scan and run the network once; errors as `SearchEngine.read`.

    `bundle` is the encoder's, with the calibration to predict by.
    """
    if lesion is not None and not bundle.reads_marks:
        raise InvalidValueError(
            f"a lesion is marked, and bundle {bundle.bundle_id!r} reads no marks: its network looks at the whole scan "
            "alone. Leave the mark out, or open the engine with a bundle whose `reads_marks` is true."
        )
    preprocessed = preprocess(scan, bundle.recipe, crop=crop)
    if lesion is not None:
        lesion = _seen_part(lesion, preprocessed.mapping)
    encoding = _encode(encoder, to_input(preprocessed)[np.newaxis], lesion=lesion, mapping=preprocessed.mapping)
    return EncodedScan(
        scan=scan,
        crop=crop,
        lesion=lesion,
        preprocessed=preprocessed,
        mapping=preprocessed.mapping,
        embedding=encoding.embedding[0],
        evidence=encoding.evidence[0],
        spatial_weights=encoding.spatial_weights[0],
        logits=encoding.logits[0],
        prediction=predict(bundle, encoding.logits[0], embedding=encoding.embedding[0]),
    )


def _encode(encoder: Encoder, canvases: NDArray[np.float32], *, lesion: Box | None, mapping: CanvasMapping) -> Encoding:
    if lesion is None:
        return encoder.encode(canvases)
    box = mapping.box_to_canvas(lesion)
    mark = np.array([[box.top, box.left, box.bottom, box.right]], np.float32)
    return encoder.encode(canvases, marks=mark.repeat(len(canvases), axis=0))


def _seen_part(lesion: Box, mapping: CanvasMapping) -> Box:
    """The part of a mark that the network sees.

    Raises:
        InvalidValueError: it is less than a pixel high or wide.
    """
    height, width = mapping.scan_shape
    seen = mapping.crop
    if min(lesion.bottom, height) - max(lesion.top, 0) < 1 or min(lesion.right, width) - max(lesion.left, 0) < 1:
        raise InvalidValueError(
            f"{named_box('lesion', lesion)} does not cover a pixel of the scan of {height} × {width} pixels; give its "
            "box in the scan's own pixels."
        )
    top, left = max(lesion.top, seen.top), max(lesion.left, seen.left)
    bottom, right = min(lesion.bottom, seen.bottom), min(lesion.right, seen.right)
    if bottom - top < 1 or right - left < 1:
        raise InvalidValueError(
            f"{named_box('lesion', lesion)} lies outside what the network sees of the scan, rows {seen.top:g} to "
            f"{seen.bottom:g} and columns {seen.left:g} to {seen.right:g}; mark it inside the ultrasound picture, or "
            "correct the scan area with `crop`."
        )
    return Box(top=top, left=left, bottom=bottom, right=right)


def named_box(what: str, box: Box) -> str:
    """A box in the words of an error: "the region (top 1, left 2, bottom 3, right 4)"."""
    return f"the {what} (top {box.top:g}, left {box.left:g}, bottom {box.bottom:g}, right {box.right:g})"


def from_entry(bundle: Bundle, entry: GalleryEntry) -> EncodedScan:
    """The encoding of an archived scan, from what the gallery stores; the network is not run.

    Raises:
        GalleryError: the gallery keeps no evidence or no picture of it.
    """
    if entry.evidence is None or entry.picture is None:
        lacking = "evidence" if entry.evidence is None else "picture"
        raise GalleryError(
            f"the gallery keeps no {lacking} of scan {entry.scan_id} ({entry.record.dataset}/{entry.record.case_id}); "
            "build its case again with this sonoseek, or ask with the scan's file."
        )
    unpacked = unpack_evidence(
        entry.evidence, embedding=entry.embedding, scan_shape=entry.scan_shape, spacing_mm=entry.spacing_mm
    )
    side: Any = entry.laterality
    logits = (bundle.head_weight @ entry.embedding + bundle.head_bias).astype(np.float32)
    return EncodedScan(
        scan=Scan.archived(
            decode_picture(entry.picture, shape=entry.scan_shape),
            scan_id=entry.scan_id,
            spacing_mm=entry.spacing_mm,
            patient_id=entry.record.patient_id,
            laterality=side,
            view=entry.view,
            source=entry.source or f"{entry.record.dataset}/{entry.record.case_id}",
        ),
        preprocessed=None,
        mapping=unpacked.mapping,
        embedding=entry.embedding,
        evidence=unpacked.evidence,
        spatial_weights=unpacked.spatial_weights,
        logits=logits,
        prediction=predict(bundle, logits, embedding=entry.embedding),
    )
