"""Images inside a report: the scan, the heatmap's two layers, thumbnails; as data: URLs, so that it is one file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoseek.core import Explanation, Report, Scan

ImageFormat = Literal["png", "webp", "jpeg"]
Side = Literal["warm", "cool"]
LONGEST_SIDE = 2000
"""Pixels of the scan's longer side in a page; larger scans are shrunk for the page alone."""
HEATMAP_SIDE = 640
"""Pixels of a heatmap layer's longer side: the network's grid is far coarser."""

WARM = (
    (106, 23, 110),
    (143, 36, 105),
    (177, 50, 90),
    (210, 70, 68),
    (234, 99, 42),
    (248, 135, 14),
    (252, 178, 22),
    (244, 221, 79),
    (252, 255, 164),
)
"""Evidence for: the upper part of matplotlib's inferno (CC0), perceptually uniform, colour-blind safe."""
COOL = ((38, 57, 104), (36, 86, 138), (43, 117, 163), (66, 149, 184), (104, 181, 202), (152, 212, 222), (208, 240, 240))
"""Evidence against: blue to pale cyan, lightness rising evenly as in `WARM`."""

PARTS = 100
"""Values are shown per hundredth of the scan's area."""
SMALLEST_CLASS_SCALE, SMALLEST_PAIR_SCALE = 1.0, 0.1
"""Full colour stands for at least this value, in logits, or in cosine, per hundredth of the scan.

The peak of malignant lesions is about as high (median 1.2 on the validation scans of a BUSI fold; 0.5 on normal scans).
Without a minimum the weakest evidence would be stretched to full colour.
"""
BAR_LENGTHS_MM = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)


@dataclass(frozen=True, kw_only=True)
class ScaleBar:
    """A scale bar: its share of the image's width, 0 … 1, and its label."""

    share: float
    label: str


def scale_bar(width: int, spacing_mm: tuple[float, float] | None) -> ScaleBar | None:
    """The longest round length that takes at most a third of the image's width; None where spacing is not known.

    Args:
        width: of the scan, pixels.
        spacing_mm: (row, column), or None.
    """
    width_mm = 0.0 if spacing_mm is None else width * spacing_mm[1]
    length = max((each for each in BAR_LENGTHS_MM if each <= width_mm / 3), default=None)
    return None if length is None else ScaleBar(share=length / width_mm, label=f"{length:g} mm")


def display_aspect(shape: tuple[int, int], spacing_mm: tuple[float, float] | None) -> float:
    """Width by height at which a scan is shown, 0.1 … 10: in millimetres where the spacing is known.

    Args:
        shape: (H, W), pixels.
        spacing_mm: (row, column), or None.
    """
    row_mm, column_mm = spacing_mm or (1.0, 1.0)
    return min(max(shape[1] * column_mm / (shape[0] * row_mm), 0.1), 10.0)  # a wrong spacing must not break the page


@dataclass(frozen=True, kw_only=True)
class HeatLayers:
    """A heatmap as two image layers.

    Attributes:
        warm, cool: PNG data: URLs, transparent where there is no evidence; for and against.
        reference: value of full colour, in units of the explained number per hundredth of the scan.
        peak: the heatmap's largest value on that scale; below `reference` where the minimum applies.
        lowest: its most negative value on that scale, ≤ 0.
        highest: its most positive value on that scale, ≥ 0.
    """

    warm: str
    cool: str
    reference: float
    peak: float
    lowest: float
    highest: float


def scan_url(scan: Scan) -> str:
    """The scan as a grey PNG, with its own pixels unless a side is longer than `LONGEST_SIDE`."""
    return _png_url(Image.fromarray(shrunk(scan.pixels, longest=LONGEST_SIDE)))


def thumbnail_url(scan: Scan) -> str:
    """The scan, small, as a grey JPEG."""
    return _url("jpeg", scan_image(scan.pixels, longest=320, format="jpeg"))


def scan_image(pixels: NDArray[np.uint8], *, longest: int, format: ImageFormat = "png") -> bytes:  # noqa: A002
    """Grey pixels (H, W) as a file, no side longer than `longest`; smaller scans keep their own pixels."""
    small = shrunk(pixels, longest=longest)
    if format == "png":  # speckle hardly repeats: run-length coding compresses as well, in half the time
        return bytes(cv2.imencode(".png", small, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE])[1].data)
    buffer = io.BytesIO()
    kind, options = ("WEBP", {"method": 1}) if format == "webp" else ("JPEG", {})
    Image.fromarray(small).save(buffer, kind, quality=85, **options)
    return buffer.getvalue()


def heat_image(
    explanation: Explanation,
    *,
    side: Side,
    longest: int = HEATMAP_SIDE,
    reference: float | None = None,
    format: ImageFormat = "png",  # noqa: A002
) -> bytes:
    """One layer of a heatmap as a file with transparency: "warm" is evidence for, "cool" against; see `draw_heatmap`.

    Args:
        explanation: to draw.
        side: which layer.
        longest: pixels of its longer side at most.
        reference: value of full colour, per hundredth of the scan; None: as `reference_of`.
        format: "png" or "webp"; JPEG has no transparency and gives PNG.
    """
    if reference is None:
        reference = reference_of(explanation)
    heatmap = explanation.heatmap
    share = shrunk(heatmap, longest=longest).astype(np.float32) * np.float32(heatmap.size / (PARTS * reference))
    picture = _layer(share if side == "warm" else -share, WARM if side == "warm" else COOL)
    buffer = io.BytesIO()
    if format == "webp":
        picture.convert("RGBA").save(buffer, "WEBP", lossless=True, method=0)
    else:
        picture.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def picture_url(picture: bytes) -> str | None:
    """A match's JPEG as it is stored; None where it is no JPEG."""
    return _url("jpeg", picture) if picture.startswith(b"\xff\xd8") else None


def picture_shape(picture: bytes) -> tuple[int, int] | None:
    """Height and width of a match's JPEG; None where it is no JPEG."""
    try:
        with Image.open(io.BytesIO(picture), formats=("JPEG",)) as opened:
            return opened.height, opened.width
    except OSError:
        return None


def draw_heatmap(
    explanation: Explanation, *, longest: int = HEATMAP_SIDE, reference: float | None = None
) -> HeatLayers:
    """Draw a heatmap in two layers whose opacity rises in proportion to the evidence.

    Values are in units of the explained number per hundredth of the scan: the same for a small and for a large scan.

    Args:
        explanation: to draw.
        longest: pixels of the layers' longer side at most.
        reference: value of full colour, where two maps share one scale; None: as `reference_of`.
    """
    heatmap = explanation.heatmap
    density = shrunk(heatmap, longest=longest).astype(np.float32) * np.float32(heatmap.size / PARTS)
    lowest, highest = min(float(density.min()), 0.0), max(float(density.max()), 0.0)
    peak = max(highest, -lowest)
    if reference is None:
        reference = max(peak, smallest_scale(explanation))
    share = density / np.float32(reference)
    return HeatLayers(
        warm=_png_url(_layer(share, WARM)),
        cool=_png_url(_layer(-share, COOL)),
        reference=reference,
        peak=peak,
        lowest=lowest,
        highest=highest,
    )


def reference_of(explanation: Explanation) -> float:
    """The value of full colour: the strongest place, but at least `smallest_scale`.

    In units of the explained number per hundredth of the scan.
    """
    height, width = explanation.shape
    return max(explanation.peak * height * width / PARTS, smallest_scale(explanation))


def on_all_views(report: Report, explanation: Explanation) -> list[tuple[int, Scan, Explanation]]:
    """What an explanation of the first view is on each view: number, scan and explanation, the first view's first."""
    wanted = (explanation.method, explanation.target)
    return [
        (1, report.scan, explanation),
        *(
            (number, view.scan, each)
            for number, view in enumerate(report.views, start=2)
            for each in view.explanations
            if (each.method, each.target) == wanted
        ),
    ]


def shared_reference(report: Report, explanation: Explanation) -> float:
    """The value of full colour on all views, and on the match where a pair is explained."""
    shown = [each for _, _, each in on_all_views(report, explanation)]
    shown += [m.explanation for m in report.matches if m.explanation and explanation.target == f"match:{m.scan_id}"]
    return max(map(reference_of, shown))


def smallest_scale(explanation: Explanation) -> float:
    """The smallest value that full colour stands for."""
    return SMALLEST_PAIR_SCALE if ":" in explanation.target else SMALLEST_CLASS_SCALE


def css_gradient(stops: tuple[tuple[int, int, int], ...]) -> str:
    """The colours of a layer for a legend, opacity rising as in the layer."""
    last = len(stops) - 1
    colours = (f"rgb({r} {g} {b} / {i / last:.3f})" for i, (r, g, b) in enumerate(stops))
    return f"linear-gradient(to right, {', '.join(colours)})"


def shrunk(pixels: NDArray[Any], *, longest: int) -> NDArray[Any]:
    """`pixels` averaged down until no side is longer than `longest`; smaller ones are returned as they are."""
    height, width = pixels.shape
    scale = longest / max(height, width)
    if scale >= 1.0:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _layer(share: NDArray[np.float32], stops: tuple[tuple[int, int, int], ...]) -> Image.Image:
    """A palette image: index i has the colour, and the opacity, of i / 255."""
    index = np.clip(share * np.float32(255.0) + np.float32(0.5), 0.0, 255.0).astype(np.uint8)
    ramp = np.linspace(0.0, len(stops) - 1.0, 256)
    table = np.stack([np.interp(ramp, np.arange(len(stops)), channel) for channel in zip(*stops, strict=True)], axis=1)
    picture = Image.fromarray(index)
    picture = picture.convert("L")
    picture.putpalette(table.round().astype(np.uint8).tobytes())
    picture.info["transparency"] = bytes(range(256))
    return picture


def _png_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    return _url("png", buffer.getvalue())


def _url(kind: ImageFormat, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
