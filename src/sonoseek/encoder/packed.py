"""A scan's evidence in 17 to 38 kB: what a gallery stores so that a match can be explained on its own pixels.

So a match needs neither its file nor another run of the network. The evidence is stored in eight bits per number. Its
mean is corrected to the gallery's embedding, so a pair map still sums to the cosine exactly. Its cells are right to
about half a percent of the largest number in them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Box, InvalidValueError
from sonoseek.preprocessing import CanvasMapping
from sonoseek.preprocessing.mapping import fit_to_canvas

VERSION = 1
LEVEL = 1
"""Of zlib: higher ones save two percent and take five times as long."""
_CHECK = 4
"""Bytes of the checksum that stands first."""
_MOST = 1 << 26
"""Bytes. No valid pack is larger, unpacked."""


class _Pack(msgspec.Struct, frozen=True, array_like=True):
    version: int
    shape: tuple[int, int, int]
    fine: tuple[int, int]
    crop: tuple[int, int, int, int]
    canvas_size: int
    scale: bytes
    evidence: bytes
    spatial_weights: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredEvidence:
    """The evidence of a scan, as in `Encoding`, and the mapping from scan to canvas.

    Attributes:
        evidence: float32 (D, h, w); its mean over cells is the embedding it was unpacked with.
        spatial_weights: float32 (f·h, g·w), 0 … 1: in proportion to what was packed.
        mapping: of the scan.
    """

    evidence: NDArray[np.float32]
    spatial_weights: NDArray[np.float32]
    mapping: CanvasMapping


def pack_evidence(
    evidence: NDArray[np.float32], spatial_weights: NDArray[np.float32], *, mapping: CanvasMapping
) -> bytes:
    """Pack one scan's evidence.

    Args:
        evidence: float32 (D, h, w), of `Encoding`.
        spatial_weights: float32 (f·h, g·w), of the same encoding.
        mapping: of the preprocessed scan.

    Raises:
        InvalidValueError: the evidence is not finite.
    """
    depth, rows, columns = evidence.shape
    flat = evidence.reshape(depth, rows * columns)
    largest = np.abs(flat).max(axis=0)
    if not np.isfinite(largest).all():
        raise InvalidValueError("the evidence holds NaN or infinity; a bundle gives finite numbers. Export it again.")
    scale = largest / np.float32(127)
    bits = np.rint(flat / np.where(scale > 0, scale, np.float32(1))).astype(np.int8)
    most = float(spatial_weights.max(initial=0.0))
    # the root keeps small shares apart
    shares = np.rint(np.sqrt(spatial_weights / np.float32(most or 1.0)) * 255).astype(np.uint8)
    crop = mapping.crop
    pack = _Pack(
        version=VERSION,
        shape=(depth, rows, columns),
        fine=(spatial_weights.shape[0], spatial_weights.shape[1]),
        crop=(round(crop.top), round(crop.left), round(crop.bottom), round(crop.right)),
        canvas_size=mapping.canvas_size,
        scale=scale.astype("<f4").tobytes(),
        # Cell by cell: a cell without evidence is a run of zeros.
        evidence=zlib.compress(np.ascontiguousarray(bits.T).tobytes(), LEVEL),
        spatial_weights=zlib.compress(shares.tobytes(), LEVEL),
    )
    content = msgspec.msgpack.encode(pack)
    return zlib.crc32(content).to_bytes(_CHECK, "little") + content


def evidence_problem(packed: bytes) -> str | None:
    """What is wrong with a stored pack, at a glance; None where its checksum is right."""
    return None if zlib.crc32(packed[_CHECK:]) == int.from_bytes(packed[:_CHECK], "little") else "is damaged"


def unpack_evidence(
    packed: bytes,
    *,
    embedding: NDArray[np.float32],
    scan_shape: tuple[int, int],
    spacing_mm: tuple[float, float] | None,
) -> StoredEvidence:
    """Unpack what `pack_evidence` made.

    Args:
        packed: its bytes.
        embedding: (D,), that the gallery serves for this scan: the mean of the evidence becomes exactly this one.
        scan_shape: (H, W) of the scan.
        spacing_mm: of the scan.

    Raises:
        InvalidValueError: damaged, of another version, or of another network than the embedding.
    """
    try:
        content = packed[_CHECK:]
        if evidence_problem(packed) is not None:
            raise ValueError("its checksum is another")  # noqa: TRY301  # one message for all that is damaged
        pack = msgspec.msgpack.decode(content, type=_Pack)
        depth, rows, columns = pack.shape
        bits = _numbers(pack.evidence, np.int8, (rows * columns, depth)).T
        shares = _numbers(pack.spatial_weights, np.uint8, pack.fine)
        scale = np.frombuffer(pack.scale, "<f4", rows * columns)
        top, left, bottom, right = pack.crop
        mapping = fit_to_canvas(
            scan_shape,
            Box(top=top, left=left, bottom=bottom, right=right),
            canvas_size=pack.canvas_size,
            spacing_mm=spacing_mm,
        )
    except (msgspec.DecodeError, ValueError, zlib.error, MemoryError) as error:
        raise InvalidValueError(
            f"the stored evidence does not read ({error}); it is damaged. Build the gallery's case again."
        ) from error
    if pack.version != VERSION or embedding.shape != (depth,):
        raise InvalidValueError(
            f"the stored evidence has version {pack.version} and {depth} numbers per cell; expected are {VERSION} and "
            f"{embedding.shape[0]}. Build the gallery anew with this sonoseek and bundle."
        )
    evidence = bits * scale
    # What eight bits have lost of the mean is given back where the evidence lies, so that sums are exact again.
    weight = scale / scale.mean() if scale.any() else np.ones_like(scale)
    lost = embedding.astype(np.float64) - evidence.mean(axis=1, dtype=np.float64)
    evidence += lost[:, None].astype(np.float32) * weight
    spatial_weights = np.square(shares.astype(np.float32) / np.float32(255))
    return StoredEvidence(
        evidence=evidence.reshape(depth, rows, columns),
        spatial_weights=spatial_weights,
        mapping=mapping,
    )


def _numbers(packed: bytes, kind: Any, shape: tuple[int, int]) -> NDArray[Any]:
    size = shape[0] * shape[1]
    if not 0 < size <= _MOST:
        raise ValueError(f"{shape} numbers")
    return np.frombuffer(zlib.decompressobj().decompress(packed, size), kind, size).reshape(shape)
