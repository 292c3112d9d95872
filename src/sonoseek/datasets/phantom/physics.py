"""From tissue to grey: speckle, beam, attenuation, gain, noise, compression.

The carrier is left out. The demodulated echo of many scatterers in one resolution cell is a complex Gaussian number. So
complex Gaussian noise through the pulse's point-spread function is fully developed speckle (Wagner, Smith, Sandrik and
Lopez, "Statistics of speckle in ultrasound B-scans", IEEE Trans. Sonics Ultrason. 30, 1983). Its envelope is Rayleigh:
mean / standard deviation = 1.91.
"""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.datasets.phantom.grid import SOUND_MM_PER_US, Grid
from sonoseek.datasets.phantom.noise import Floats, floats, smooth_line
from sonoseek.datasets.phantom.scanners import Scanner
from sonoseek.datasets.phantom.tissue import Tissue

_DB = np.float32(math.log(10) / 20)
PULSE_WAVES = 0.62
"""Standard deviation of the pulse's envelope along the beam, in wavelengths."""
F_NUMBER_NEAR, F_NUMBER_FAR = 1.4, 2.5
"""Focal length ÷ aperture in focus and at the far end: beam width = wavelength × f-number."""
FOCUS, BEAM_BANDS = 0.4, 14
"""Depth of the focus as a share of the picture's depth, and in how many steps the beam's width follows it."""
TGC_LOSS = 0.58
"""Attenuation that the scanner compensates, dB/cm/MHz, one way."""
LOSS_SHARE = 0.72
"""Share of the centre frequency that counts for attenuation: the deep echo has lost its high frequencies."""
DEEPEST_SHADOW_DB = 30.0
"""Reverberation fills shadows: no place loses more."""


def envelope(scatterers: Floats, mirrors: Floats | None, grid: Grid, *, noise: Floats) -> Floats:
    """Squared envelope of the received echo, float32 (Z, B).

    Args:
        scatterers: amplitude of diffuse scattering, float32 (Z, B); 1 throughout gives a result of mean 1.
        mirrors: amplitude of smooth surfaces, added in phase, or None.
        grid: whose beams and pulse.
        noise: float32 (2, Z, B), standard normal: real and imaginary part.
    """
    wave = SOUND_MM_PER_US / grid.scanner.frequency_mhz
    axial = _kernel(PULSE_WAVES * wave / grid.step_mm[0])
    amplitude = scatterers * np.float32(math.sqrt(0.5))
    power = np.zeros_like(amplitude)
    bands = _beam_kernels(grid, wave)
    for part, plane in enumerate(noise):
        field = plane * amplitude
        if mirrors is not None and part == 0:
            field += mirrors
        field = floats(cv2.sepFilter2D(field, -1, _ALONE, axial))
        for rows, lateral in bands:
            echo = floats(cv2.sepFilter2D(field[rows], -1, lateral, _ALONE))
            echo *= echo
            power[rows] += echo
    return power


_ALONE = np.ones(1, np.float32)


def _beam_kernels(grid: Grid, wave: float) -> list[tuple[slice, Floats]]:
    """Bands of depth, each with its beam: narrow in focus, wider before and behind. Steps are too small to see."""
    edges = np.linspace(0, len(grid.z), BEAM_BANDS + 1).astype(int)
    bands = []
    for first, last in pairwise(edges):
        middle = float(grid.z[first:last].mean()) / grid.depth_mm
        blur = min(abs(middle - FOCUS) / 0.75, 1.0)
        f_number = F_NUMBER_NEAR + (F_NUMBER_FAR - F_NUMBER_NEAR) * blur
        bands.append((slice(int(first), int(last)), _kernel(0.42 * f_number * wave / grid.step_mm[1])))
    return bands


def _kernel(sigma: float) -> Floats:
    """Gaussian, its squares summing to 1 so that filtered noise keeps its power; cut off below 4 %."""
    half = max(1, math.ceil(2.6 * sigma))
    steps = np.arange(-half, half + 1, dtype=np.float32)
    kernel = np.exp(-0.5 * np.square(steps / np.float32(max(sigma, 0.3))))
    return floats(kernel / math.sqrt(float(np.sum(kernel**2))))


def gain_db(rng: np.random.Generator, tissue: Tissue, grid: Grid) -> tuple[Floats, Floats]:
    """(gain of the echo (Z, B), gain of the electronic noise (Z, 1)), dB: attenuation against imperfect TGC."""
    beams = grid.x.shape[1]
    per_mm = 2 * 0.1 * LOSS_SHARE * grid.scanner.frequency_mhz
    lost = np.cumsum(tissue.loss, axis=0, dtype=np.float32) * np.float32(grid.step_mm[0] * per_mm)
    tgc = grid.z * np.float32(TGC_LOSS * per_mm * rng.normal(0.87, 0.07))
    # The wide aperture looks past an absorber: shadows are soft-edged, softer far below, and never quite black.
    near = floats(cv2.blur(lost, (max(3, round(1.2 / grid.step_mm[1])), 1)))
    far = floats(cv2.blur(near, (max(3, round(4.0 / grid.step_mm[1])), 1)))
    net = tgc - near - (far - near) * (grid.z * np.float32(0.8 / grid.depth_mm))
    half = DEEPEST_SHADOW_DB / 2
    beyond = np.maximum(-half - net, 0)
    net += beyond - beyond / (1 + beyond * np.float32(1 / half))
    contact = np.float32(7) * np.minimum(smooth_line(rng, beams, cell=beams / 5) + np.float32(1.4), 0)
    knobs = smooth_line(rng, grid.x.shape[0], cell=grid.x.shape[0] / 6).T * np.float32(1.3)
    return (net + knobs + contact).astype(np.float32), (tgc + knobs).astype(np.float32)


def compress(power: Floats, scanner: Scanner, *, gain: float) -> NDArray[np.uint8]:
    """Log compression and grey map: squared envelope → uint8."""
    level = np.log(power + np.float32(1e-12)) * np.float32(10 / math.log(10)) + np.float32(gain)
    grey = np.clip(level * np.float32(1 / scanner.dynamic_range_db) + np.float32(1), 0, 1)
    if scanner.gamma != 1.0:
        grey = np.power(grey, np.float32(scanner.gamma))
    if scanner.smoothing:
        grey += (cv2.GaussianBlur(grey, (0, 0), sigmaX=1.3, sigmaY=0.8) - grey) * np.float32(scanner.smoothing)
    if scanner.sharpening:
        grey += (grey - cv2.GaussianBlur(grey, (0, 0), 2.0)) * np.float32(scanner.sharpening)
    return np.asarray(np.clip(grey, 0, 1) * np.float32(255) + np.float32(0.5), np.float32).astype(np.uint8)


def acquire(rng: np.random.Generator, tissue: Tissue, grid: Grid) -> NDArray[np.uint8]:
    """One sweep over the tissue, uint8 (Z, B) samples."""
    scanner = grid.scanner
    signal_gain, noise_gain = gain_db(rng, tissue, grid)
    scatterers = np.exp((tissue.echo_db + signal_gain) * _DB)
    mirrors = np.exp((tissue.mirror_db + signal_gain) * _DB)
    noise = rng.standard_normal((2, *tissue.echo_db.shape), dtype=np.float32)
    power = envelope(scatterers, mirrors, grid, noise=noise)
    # Another angle sees other speckle of the same tissue; turned noise is as good as new and costs nothing.
    for turned in (noise[:, ::-1, ::-1], noise[:, ::-1], noise[:, :, ::-1])[: scanner.looks - 1]:
        power += envelope(scatterers, mirrors, grid, noise=turned)
    power *= np.float32(1 / scanner.looks)
    hiss = floats(cv2.blur(np.square(noise[1, ::-1, ::-1]) + np.square(noise[0, :, ::-1]), (3, 1)))
    power += hiss * np.exp((noise_gain + np.float32(scanner.noise_db)) * (2 * _DB)) * np.float32(0.5)
    return compress(power, scanner, gain=scanner.gain_db + float(rng.normal(-2.5, 4.5)))
