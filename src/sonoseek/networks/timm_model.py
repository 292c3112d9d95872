"""Any feature extractor of timm (PyTorch Image Models), named `timm:<model>`; needs `pip install ".[timm]"`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError, NotFoundError, from_extra
from sonoseek.networks.coarse import STRIDE, filled_up, finer
from sonoseek.networks.imagenet import GreyToImageNet, load_exactly


class TimmBackbone(nn.Module):
    """The last map of a timm model: (N, 1, S, S) in 0 … 1 → (N, channels, S/16, S/16).

    Cells of models that halve without overlap (ConvNeXt, Swin, …) tile the canvas. Those of models that pad all around
    (ResNet, …) look half a cell up and to the left of their place, as timm builds them: a heatmap is shifted by that.
    """

    stride = STRIDE

    def __init__(self, name: str) -> None:
        """Build `name` with a random start; nothing is downloaded.

        Args:
            name: as timm spells it, without "timm:".

        Raises:
            MissingExtraError: timm is not installed.
            NotFoundError: timm has no model of that name.
            InvalidValueError: the model has no map of features, or one whose cells 16 pixels cannot make up.
        """
        super().__init__()
        with from_extra("timm"):
            timm = import_module("timm")
        if not timm.is_model(name):
            near = timm.list_models(f"*{name[:6]}*")[:5]
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise NotFoundError(f"timm has no model called {name!r}; timm.list_models() names them.{hint}")
        self.name = name
        try:
            self.net: nn.Module = timm.create_model(name, pretrained=False, features_only=True, in_chans=3)
        except (AttributeError, RuntimeError) as error:
            raise InvalidValueError(
                f"timm's {name!r} offers no map of features ({error}). Take one that supports features_only."
            ) from error
        last = self.net.feature_info[-1]
        self.channels = int(last["num_chs"])
        self.reduction = int(last["reduction"])
        if max(self.reduction, STRIDE) % min(self.reduction, STRIDE):
            raise InvalidValueError(
                f"timm's {name!r} has cells of {self.reduction} pixels; they must make up cells of {STRIDE}, or be "
                "made up of them. Take another."
            )
        self.normalise = GreyToImageNet()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, S, S), S a multiple of 16, → (N, channels, S/16, S/16).

        Raises:
            InvalidValueError: the model reads one size only, and this is another.
        """
        cells = x.shape[-1] // STRIDE
        filled = filled_up(self.normalise(x), multiple=max(self.reduction, STRIDE))
        try:
            features: Tensor = self.net(filled)[-1]
        except AssertionError as error:  # timm's way of saying so
            raise InvalidValueError(
                f"timm's {self.name!r} does not read {filled.shape[-1]} pixels. Choose another canvas_size, or a model "
                f"that reads any size. timm says: {error}"
            ) from error
        if features.shape[1] != self.channels:  # Swin and its like put channels last
            features = features.permute(0, 3, 1, 2)
        if self.reduction < STRIDE:
            return functional.avg_pool2d(features, STRIDE // self.reduction)
        return finer(features, cells=cells, times=self.reduction // STRIDE)

    def load_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take weights saved from the very extractor: `timm.create_model(name, features_only=True).state_dict()`.

        Raises:
            InvalidValueError: keys or shapes are not its own.
        """
        load_exactly(self.net, weights, name=f"timm's {self.name} with features_only=True")
