"""MixStyle: early features of a batch trade mean and deviation, so that a scanner's look carries no information."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sonoseek.core import InvalidValueError


class MixStyle:
    """A forward hook that mixes each scan's channel statistics with those of another scan of the batch.

    Zhou et al. 2021, arXiv:2104.02008: what a scanner and its settings do to a picture lies largely in the mean and the
    deviation of early channels; a network that sees them mixed cannot rely on them.
    """

    def __init__(self, *, probability: float, spread: float = 0.1) -> None:
        """Prepare.

        Args:
            probability: per batch, 0 … 1.
            spread: of Beta(spread, spread), from which the share of the other scan is drawn.
        """
        self.probability = probability
        self._spread = spread
        self._generator = torch.Generator()

    def seed(self, number: int) -> None:
        """Seed one step: a resumed run mixes as an unbroken one."""
        self._generator.manual_seed(number)

    def __call__(self, module: nn.Module, inputs: Any, features: Tensor) -> Tensor:
        """As torch calls a forward hook: (N, C, h, w) → the same shape; nothing outside of training."""
        del inputs
        if not module.training or float(torch.rand((), generator=self._generator)) >= self.probability:
            return features
        mean = features.mean((2, 3), keepdim=True).detach()
        deviation = (features.var((2, 3), keepdim=True) + 1e-6).sqrt().detach()
        order = torch.randperm(len(features), generator=self._generator).to(features.device)
        share = self._shares(len(features)).to(features)[:, None, None, None]
        mixed_mean = share * mean + (1 - share) * mean[order]
        mixed_deviation = share * deviation + (1 - share) * deviation[order]
        return (features - mean) / deviation * mixed_deviation + mixed_mean

    def _shares(self, count: int) -> Tensor:
        """Beta(a, a), as two gammas: torch's own Beta takes no generator."""
        a = torch.full((2, count), self._spread)
        drawn = torch._standard_gamma(a, generator=self._generator).clamp(min=1e-12)
        return drawn[0] / drawn.sum(0)


def early_layers(backbone: nn.Module) -> tuple[nn.Module, ...]:
    """Where styles are mixed: after each of the first two downsamplings that a backbone names, else none.

    Raises:
        InvalidValueError: the backbone names no early layers.
    """
    layers: tuple[nn.Module, ...] = getattr(backbone, "early", ())
    if not layers:
        raise InvalidValueError(
            f"a {type(backbone).__name__} names no early layers; set mix_style = 0, or choose another backbone."
        )
    return layers
