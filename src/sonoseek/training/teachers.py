"""Finished bundles as teachers: their word of a batch's views, and how alike they find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sonoseek.core import InvalidValueError
from sonoseek.encoder import OnnxEncoder, load_bundle
from sonoseek.evaluate.ranking import unit
from sonoseek.evaluate.systems.bundle import check_unseen
from sonoseek.training.recipe import Recipe


class Teachers:
    """Several bundles, asked together: the mean of their calibrated log-probabilities, the mean of their cosines."""

    def __init__(self, bundles: Sequence[Path], recipe: Recipe, *, unseen: Mapping[str, Sequence[str]]) -> None:
        """Open them.

        Args:
            bundles: folders.
            recipe: of the student; it must clean as its teachers do.
            unseen: dataset → cases that no teacher may have learnt from, where there are any.

        Raises:
            InvalidValueError: a teacher reads other canvases than the student.
            BundleError: a bundle is missing or damaged.
            SplitError: a teacher has seen what the student will be tested on.
        """
        opened = [load_bundle(path) for path in bundles]
        for bundle in opened:
            if bundle.recipe != recipe.cleaning_recipe:
                raise InvalidValueError(
                    f"teacher {bundle.bundle_id} cleans by {bundle.recipe.to_dict()}; the student {recipe.name!r} by "
                    f"{recipe.cleaning_recipe.to_dict()}. Give both the same [cleaning]."
                )
            if unseen:
                check_unseen(bundle, unseen)
        self._encoders = [OnnxEncoder(bundle, threads=torch.get_num_threads()) for bundle in opened]

    def read(self, canvases: Tensor) -> tuple[Tensor, Tensor]:
        """Canvases (N, 1, S, S) → mean log-probabilities (N, C) and mean cosines (N, N), on the canvases' device."""
        pictures = np.ascontiguousarray(canvases.detach().cpu().numpy())
        words, cosines = [], []
        for encoder in self._encoders:
            encoding = encoder.encode(pictures)
            words.append(torch.from_numpy(encoding.logits / encoder.bundle.temperature).log_softmax(1))
            units = unit(encoding.embedding)
            cosines.append(torch.from_numpy(units @ units.T))
        return (
            torch.stack(words).mean(0).to(canvases),
            torch.stack(cosines).mean(0).to(canvases),
        )
