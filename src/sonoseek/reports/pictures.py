"""Pictures inside a report: the scan, the heatmap's two layers, thumbnails; as data: URLs, so that it is one file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sonoseek.core import Explanation, Scan

ImageFormat = Literal["png", "webp", "jpeg"]
Side = Literal["warm", "cool"]
LONGEST_SIDE = 2000
"""Pixels of the scan in a page; larger scans are shrunk for the page alone."""
HEATMAP_SIDE = 640
"""Pixels of a heatmap layer: it is smooth, the network's cells are far coarser."""

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
"""Evidence for: the upper part of matplotlib's inferno (CC0), perceptually uniform and safe for the colour-blind."""
COOL = ((38, 57, 104), (36, 86, 138), (43, 117, 163), (66, 149, 184), (104, 181, 202), (152, 212, 222), (208, 240, 240))
"""Evidence against: blue to pale cyan, lightness rising evenly as in `WARM`."""

PARTS = 100
"""Values are shown per hundredth of the scan: what a patch of that size would add if all of it were like the spot."""
FLOOR_OF_A_CLASS, FLOOR_OF_A_PAIR = 1.0, 0.1
"""Full colour stands for at least this much, in logits, or in cosine, per hundredth of the scan.

A malignant lesion's peak lies around it (median 1.2 on the validation scans of a BUSI fold; of normal scans 0.5).
Without a floor the faintest evidence would be stretched to full colour, and a scan without evidence would look as
convincing as any.
"""


@dataclass(frozen=True, kw_only=True)
class HeatLayers:
    """A heatmap, drawn.

    Attributes:
        warm, cool: PNG data: URLs, transparent where there is nothing to show; for and against.
        reference: what full colour stands for, in units of the explained number per hundredth of the scan.
        peak: the heatmap's largest value on that scale; below `reference` where the floor took hold.
        lowest: its most negative value on that scale, ≤ 0.
        highest: its most positive value on that scale, ≥ 0.
    """

    warm: str
    cool: str
    reference: float
    peak: float
    lowest: float
    highest: float


def scan_url(scan: Scan, *, longest: int = LONGEST_SIDE) -> str:
    """The scan as a grey PNG, with its own pixels unless a side is longer than `longest`."""
    return _png_url(Image.fromarray(shrunk(scan.pixels, longest=longest)))


def thumbnail_url(scan: Scan, *, longest: int = 320) -> str:
    """The scan, small, as a grey JPEG."""
    held = io.BytesIO()
    Image.fromarray(shrunk(scan.pixels, longest=longest)).save(held, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode('ascii')}"


def scan_image(pixels: NDArray[np.uint8], *, longest: int, format: ImageFormat = "png") -> bytes:  # noqa: A002
    """Grey pixels (H, W) as a file, no side longer than `longest`; smaller scans keep their own pixels."""
    small = shrunk(pixels, longest=longest)
    if format == "png":  # speckle hardly repeats: run lengths do as well as a search for matches, in half the time
        return bytes(cv2.imencode(".png", small, [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE])[1].data)
    held = io.BytesIO()
    kind, options = ("WEBP", {"method": 1}) if format == "webp" else ("JPEG", {})
    Image.fromarray(small).save(held, kind, quality=85, **options)
    return held.getvalue()


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
        reference: what full colour stands for, per hundredth of the scan; None: as `reference_of`.
        format: "png" or "webp"; JPEG has no transparency and gives PNG.
    """
    if reference is None:
        reference = reference_of(explanation)
    heatmap = explanation.heatmap
    share = shrunk(heatmap, longest=longest).astype(np.float32) * np.float32(heatmap.size / (PARTS * reference))
    picture = _layer(share if side == "warm" else -share, WARM if side == "warm" else COOL)
    held = io.BytesIO()
    if format == "webp":
        picture.convert("RGBA").save(held, "WEBP", lossless=True, method=0)
    else:
        picture.save(held, "PNG", compress_level=3)
    return held.getvalue()


def picture_url(picture: bytes) -> str | None:
    """A match's JPEG as it was kept; None where it is no JPEG."""
    if not picture.startswith(b"\xff\xd8"):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"


def picture_shape(picture: bytes) -> tuple[int, int] | None:
    """Height and width of a match's JPEG as it was kept; None where it is no JPEG."""
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
        reference: what full colour stands for, where two maps share one scale; None: as `reference_of`.
    """
    heatmap = explanation.heatmap
    density = shrunk(heatmap, longest=longest).astype(np.float32) * np.float32(heatmap.size / PARTS)
    lowest, highest = min(float(density.min()), 0.0), max(float(density.max()), 0.0)
    peak = max(highest, -lowest)
    if reference is None:
        reference = max(peak, floor(explanation))
    share = density / np.float32(reference)
    return HeatLayers(
        warm=_layer_url(share, WARM),
        cool=_layer_url(-share, COOL),
        reference=reference,
        peak=peak,
        lowest=lowest,
        highest=highest,
    )


def reference_of(explanation: Explanation) -> float:
    """What full colour stands for: the strongest place, but never less than the floor.

    In units of the explained number per hundredth of the scan.
    """
    height, width = explanation.shape
    return max(explanation.peak * height * width / PARTS, floor(explanation))


def floor(explanation: Explanation) -> float:
    """What full colour stands for at least."""
    return FLOOR_OF_A_PAIR if ":" in explanation.target else FLOOR_OF_A_CLASS


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


def _layer_url(share: NDArray[np.float32], stops: tuple[tuple[int, int, int], ...]) -> str:
    return _png_url(_layer(share, stops))


def _layer(share: NDArray[np.float32], stops: tuple[tuple[int, int, int], ...]) -> Image.Image:
    """A palette picture: index i has the colour, and the opacity, of i / 255."""
    index = np.clip(share * np.float32(255.0) + np.float32(0.5), 0.0, 255.0).astype(np.uint8)
    ramp = np.linspace(0.0, len(stops) - 1.0, 256)
    table = np.stack([np.interp(ramp, np.arange(len(stops)), channel) for channel in zip(*stops, strict=True)], axis=1)
    picture = Image.fromarray(index)
    picture = picture.convert("L")
    picture.putpalette(table.round().astype(np.uint8).tobytes())
    picture.info["transparency"] = bytes(range(256))
    return picture


def _png_url(picture: Image.Image) -> str:
    held = io.BytesIO()
    picture.save(held, "PNG", compress_level=6)
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode('ascii')}"
