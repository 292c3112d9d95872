"""Fictional scanners: what a device does to a picture of the same breast.

None of them exists. Their figures are of the kind that breast probes have (7–15 MHz, 38–58 mm wide), so that a network
which learns the device instead of the tissue is caught by comparing them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sonoseek.core import NotFoundError

Shape = Literal["linear", "trapezoid", "sector"]


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """One device with one probe.

    Attributes:
        name: as the records' `device` says it.
        frequency_mhz: centre frequency; sets speckle grain and attenuation.
        width_mm: of the probe's face.
        depths_mm: depth settings that its users pick from.
        rows: pixels over the depth.
        shape: rectangle, trapezoid (beams fan out from a flat face) or sector (curved face).
        apex_mm: distance of the point that the beams fan out from above the face; radius of a curved face; 0 if linear.
        dynamic_range_db: what log compression maps to black … white.
        gain_db: overall gain.
        noise_db: electronic noise at the face, relative to white.
        looks: pictures that compounding averages; 1 is raw speckle.
        smoothing: 0 … 1, share of the speckle filter's output in the picture.
        sharpening: share of edge enhancement.
        gamma: of the grey map; below 1 brightens.
        margins: pixels of user interface (top, right, bottom, left) round the scan area.
        layout: style of the burned-in user interface.
    """

    name: str
    frequency_mhz: float
    width_mm: float
    depths_mm: tuple[float, ...]
    rows: int
    shape: Shape = "linear"
    apex_mm: float = 0.0
    dynamic_range_db: float = 60.0
    gain_db: float = 0.0
    noise_db: float = -72.0
    looks: int = 1
    smoothing: float = 0.3
    sharpening: float = 0.3
    gamma: float = 1.0
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)
    layout: Literal["bare", "ruler", "console", "portable"] = "bare"


_ALL = (
    Scanner(
        name="Aurelia 7",
        frequency_mhz=11.0,
        width_mm=50.0,
        depths_mm=(35.0, 40.0, 45.0),
        rows=480,
        dynamic_range_db=62.0,
        noise_db=-86.0,
        looks=3,
        smoothing=0.45,
        sharpening=0.2,
    ),
    Scanner(
        name="Borealis 5",
        frequency_mhz=10.0,
        width_mm=38.0,
        depths_mm=(35.0, 40.0, 50.0),
        rows=440,
        dynamic_range_db=56.0,
        gain_db=1.5,
        noise_db=-79.0,
        smoothing=0.5,
        sharpening=0.1,
        gamma=0.95,
        margins=(34, 46, 22, 26),
        layout="ruler",
    ),
    Scanner(
        name="Cirrus L14",
        frequency_mhz=13.5,
        width_mm=44.0,
        depths_mm=(28.0, 32.0, 36.0),
        rows=500,
        dynamic_range_db=66.0,
        gain_db=2.0,
        noise_db=-86.0,
        looks=2,
        smoothing=0.4,
        margins=(0, 36, 0, 0),
    ),
    Scanner(
        name="Dorado V",
        frequency_mhz=9.0,
        width_mm=40.0,
        depths_mm=(40.0, 45.0, 50.0),
        rows=450,
        shape="trapezoid",
        apex_mm=95.0,
        dynamic_range_db=58.0,
        gain_db=2.0,
        noise_db=-77.0,
        looks=2,
        smoothing=0.5,
        sharpening=0.1,
        margins=(40, 60, 40, 90),
        layout="console",
    ),
    Scanner(
        name="Estuary Go",
        frequency_mhz=7.5,
        width_mm=48.0,
        depths_mm=(45.0, 55.0),
        rows=420,
        shape="sector",
        apex_mm=60.0,
        dynamic_range_db=52.0,
        gain_db=3.0,
        noise_db=-70.0,
        smoothing=0.35,
        sharpening=0.0,
        gamma=1.05,
        margins=(26, 30, 30, 14),
        layout="portable",
    ),
)

SCANNERS: Mapping[str, Scanner] = MappingProxyType({scanner.name: scanner for scanner in _ALL})
"""Name → scanner; every phantom's `device` is one of these names."""

SHARES: Mapping[str, float] = MappingProxyType(
    {"Aurelia 7": 0.40, "Borealis 5": 0.20, "Cirrus L14": 0.16, "Dorado V": 0.14, "Estuary Go": 0.10}
)
"""How many patients are examined on which device; the same for every pathology."""


def get_scanner(name: str) -> Scanner:
    """Look a scanner up.

    Raises:
        NotFoundError: no scanner has this name.
    """
    if name not in SCANNERS:
        raise NotFoundError(
            f"no phantom scanner is called {name!r}; there are: {', '.join(SCANNERS)}. Pick one of them."
        )
    return SCANNERS[name]
