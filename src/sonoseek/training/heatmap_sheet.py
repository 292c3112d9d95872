"""A contact sheet: predictions and class evidence of a few scans of the validation part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonoseek.core import PATHOLOGIES
from sonoseek.explain.grid import project
from sonoseek.reports.pictures import COOL, WARM
from sonoseek.training.batches import PlainBatches
from sonoseek.training.splits import Part

DRAWN = 6
"""Scans on a sheet."""
TILE = 192
"""Pixels of a canvas's side on the sheet."""
CAPTION = 22
"""Pixels of the line under each column."""
STRENGTH = 0.75
"""Opacity of full colour."""
FULL = 4.0
"""Logits, if the whole canvas were like the place: full colour stands for at least this."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Canvases float32 (n, 1, S, S) as the network takes them, and labels int64 (n,)."""

    canvases: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def take_examples(parts: Sequence[Part], *, count: int) -> Examples:
    """Up to `count` canvases, always the same, spread evenly over the classes and then over the parts' rows."""
    rows = [(number, int(row)) for number, part in enumerate(parts) for row in part.rows]
    labels = np.array([parts[number].source.labels[row] for number, row in rows], dtype=np.int64)
    turns = np.zeros(len(rows))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.argsort(np.argsort((np.arange(len(members)) * 0.6180339887) % 1.0, kind="stable"), kind="stable")
        turns[members] = order  # the golden ratio spreads any first few evenly over the rows
    chosen = np.sort(np.argsort(turns, kind="stable")[:count])
    picked = [
        replace(part, rows=np.array([rows[i][1] for i in chosen if rows[i][0] == number], dtype=np.int64))
        for number, part in enumerate(parts)
    ]
    batches = list(PlainBatches([part for part in picked if len(part)], batch=max(1, count)))
    if not batches:
        return Examples(canvases=torch.zeros(0, 1, 1, 1), labels=torch.zeros(0, dtype=torch.int64))
    canvases, truth = (torch.cat(items) for items in zip(*batches, strict=True))
    return Examples(canvases=canvases, labels=truth)


def draw_sheet(network: nn.Module, examples: Examples) -> NDArray[np.uint8]:
    """Draw each canvas in grey, and below it the class evidence of the likeliest class, over grey.

    Warm is evidence for the class, cool against it; full colour stands for the largest evidence in the picture, or for
    4 logits (if the whole scan were like the spot) where that is more. The heatmap's mean plus the bias is the logit.

    Args:
        network: any whose logits are linear in the mean of its evidence, by `head`; left in the mode that it was in.
        examples: at least one.

    Returns:
        uint8 (2 × 192 + 22, n × 192, 3).
    """
    device, was_training = next(network.parameters()).device, network.training
    network.eval()
    with torch.inference_mode():
        out = network(examples.canvases.to(device).contiguous(memory_format=torch.channels_last))
    network.train(was_training)
    logits, evidence = out.logits.float().cpu().numpy(), out.evidence.float().cpu().numpy()
    weight = network.head.weight.detach().float().cpu().numpy()  # type: ignore[union-attr, operator]
    columns = []
    for canvas, class_logits, map_, truth in zip(
        examples.canvases[:, 0].numpy(), logits, evidence, examples.labels, strict=True
    ):
        top = int(class_logits.argmax())
        cells = project(map_, weight[top])
        caption = f"{_short(top)} {class_logits[top]:+.1f}, is {_short(int(truth))}"
        columns.append(_column(canvas, cells * cells.size, caption=caption))
    return np.concatenate(columns, axis=1)


def _short(label: int) -> str:
    return PATHOLOGIES[label][:6]


def _column(canvas: NDArray[np.float32], density: NDArray[np.float64], *, caption: str) -> NDArray[np.uint8]:
    """`density`: (h, w), per cell the logit if the whole scan were like it."""
    grey = cv2.resize(np.clip(canvas, 0.0, 1.0), (TILE, TILE), interpolation=cv2.INTER_AREA)
    grey = np.repeat(grey[..., None].astype(np.float64), 3, axis=2)
    share = density / max(FULL, float(np.abs(density).max()))
    share = np.asarray(cv2.resize(share, (TILE, TILE), interpolation=cv2.INTER_LINEAR), dtype=np.float64)
    heat = np.where(share[..., None] >= 0, _colour(share, WARM), _colour(-share, COOL))
    opacity = STRENGTH * np.abs(share)[..., None]
    over = (1 - opacity) * 0.8 * grey + opacity * heat
    line = np.zeros((CAPTION, TILE, 3), dtype=np.uint8)
    cv2.putText(line, caption, (3, CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (230, 230, 230), 1, cv2.LINE_AA)
    tiles = [np.round(255 * tile).clip(0, 255).astype(np.uint8) for tile in (grey, over)]
    return np.concatenate([*tiles, line], axis=0)


def _colour(share: NDArray[np.float64], stops: tuple[tuple[int, int, int], ...]) -> NDArray[np.float64]:
    """0 … 1 → RGB 0 … 1."""
    place = np.clip(share, 0.0, 1.0) * (len(stops) - 1)
    channels = [np.interp(place, np.arange(len(stops)), channel) for channel in zip(*stops, strict=True)]
    return np.stack(channels, axis=-1) / 255
