"""A scan as the search for copies sees it: a small picture and its local features.

Features are SIFT (Lowe, IJCV 60:91, 2004): they follow a picture through shift, crop, rescaling and rotation. A
mirrored picture is followed too, at no cost: the descriptor of a mirrored patch is a permutation of the patch's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core.arrays import unit_rows

WORKING_SIDE = 320
"""Pixels of the longer side: the size at which all scans are compared, whatever their own."""
FEATURES = 300
"""Features per scan, strongest first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fingerprint:
    """What is stored of a scan: about 115 kB.

    Attributes:
        image: uint8 (h, w), longer side `WORKING_SIDE`.
        points: float32 (n, 2), (x, y) on `image`, pixel centres at whole numbers.
        descriptors: uint8 (n, 128).
        to_scan: float64 (2, 3), takes (x, y, 1) on `image` to (x, y) on the scan.
    """

    image: NDArray[np.uint8]
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    to_scan: NDArray[np.float64]

    def mirrored(self) -> Fingerprint:
        """The fingerprint of the scan mirrored left–right; `to_scan` leads to the scan as it is."""
        width = self.image.shape[1]
        flip = np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])
        points = self.points.copy()
        points[:, 0] = width - 1 - points[:, 0]
        return Fingerprint(
            image=np.ascontiguousarray(self.image[:, ::-1]),
            points=points,
            descriptors=mirror_descriptors(self.descriptors),
            to_scan=chain(self.to_scan, flip),
        )


def fingerprint(pixels: NDArray[np.uint8]) -> Fingerprint:
    """Shrink (or enlarge) a scan to the working size and describe it.

    Args:
        pixels: uint8 (H, W).

    Returns:
        With no features where the scan has no texture.
    """
    height, width = pixels.shape
    scale = WORKING_SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    image = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    # The contrast threshold is a quarter of the usual one: speckle is faint, and it is what differs between scans.
    sift = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=0.01, edgeThreshold=12, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(image, None)
    if descriptors is None:
        descriptors = np.empty((0, 128), np.float32)
    points = np.array([point.pt for point in keypoints[:FEATURES]], np.float32).reshape(-1, 2)
    per_x, per_y = width / size[0], height / size[1]
    return Fingerprint(
        image=np.asarray(image, np.uint8),
        points=points,
        descriptors=descriptors[:FEATURES].astype(np.uint8),
        to_scan=np.array([[per_x, 0.0, (per_x - 1) / 2], [0.0, per_y, (per_y - 1) / 2]]),
    )


def mirror_descriptors(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Descriptors (n, 128) of the mirrored patches.

    A SIFT descriptor is a grid of 4 × 4 cells turned to the patch's main direction, with 8 directions each. A mirror
    keeps the axis along that direction, swaps the other one, and turns directions the other way round.
    """
    grid = descriptors.reshape(-1, 4, 4, 8)[:, ::-1]
    return np.ascontiguousarray(grid[..., (-np.arange(8)) % 8]).reshape(-1, 128)


def unit_descriptors(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Rows of length 1: their square roots ("RootSIFT", Arandjelović & Zisserman, CVPR 2012)."""
    return unit_rows(np.sqrt(descriptors, dtype=np.float32))


def chain(second: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine map (2, 3) that does `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def inverse(transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine map (2, 3) back."""
    back = np.linalg.inv(transform[:, :2])
    return np.column_stack([back, -back @ transform[:, 2]])
