"""timm's models by name: with a small stand-in for timm, and with timm where it is installed."""

import importlib.util
import sys
import types

import pytest
import torch
from torch import nn

from sonoseek.core import InvalidValueError, MissingExtraError, NotFoundError
from sonoseek.networks import BACKBONES


class Extractor(nn.Module):
    """Maps at 8 and `reduction` pixels per cell, as timm's `features_only` gives them."""

    def __init__(self, reduction, *, last=False):
        super().__init__()
        self.early = nn.Conv2d(3, 4, 8, 8)
        self.late = nn.Conv2d(3, 6, reduction, reduction)
        self.feature_info = [{"num_chs": 4, "reduction": 8}, {"num_chs": 6, "reduction": reduction}]
        self.last = last

    def forward(self, x):
        assert x.shape[-1] <= 256, "too large for me"
        late = self.late(x)
        return [self.early(x), late.permute(0, 2, 3, 1) if self.last else late]


@pytest.fixture
def stand_in(monkeypatch):
    asked = []
    models = {
        "coarse": lambda: Extractor(32),
        "same": lambda: Extractor(16),
        "fine": lambda: Extractor(8),
        "odd": lambda: Extractor(24),
        "swin_like": lambda: Extractor(32, last=True),
    }

    def create_model(name, **options):
        asked.append((name, options))
        if name == "flat":
            raise RuntimeError("features_only not implemented")
        return models[name]()

    module = types.ModuleType("timm")
    module.is_model = lambda name: name in models or name == "flat"
    module.list_models = lambda pattern: [n for n in models if n.startswith(pattern.strip("*")[:3])]
    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return asked


@pytest.mark.parametrize("name", ["coarse", "same", "fine", "swin_like"])
@pytest.mark.parametrize("size", [112, 160, 224])
def test_the_last_map_on_cells_of_16_pixels(stand_in, name, size):
    backbone = BACKBONES.load(f"timm:{name}")()
    assert (backbone.channels, backbone.stride) == (6, 16)
    assert stand_in == [(name, {"pretrained": False, "features_only": True, "in_chans": 3})]  # nothing is downloaded
    with torch.no_grad():
        blank = backbone(torch.zeros(1, 1, size, size))
        dot = torch.zeros(1, 1, size, size)
        dot[..., 70:75, 100:105] = 1.0
        moved = (backbone(dot) - blank).abs().sum((0, 1))
    assert blank.shape == (1, 6, size // 16, size // 16)
    # it is seen at its place; a cell of 32 pixels lends it to the finer ones that it is made of
    side = 2 if backbone.reduction == 32 else 1
    seen = {(row, column) for row in range(4, 4 + side) for column in range(6, 6 + side) if column < size // 16}
    assert {tuple(place) for place in (moved > 0).nonzero().tolist()} == seen


def test_wrong_names_and_models_are_refused(stand_in):
    with pytest.raises(NotFoundError, match=r"no model called 'coarce'.*coarse"):
        BACKBONES.load("timm:coarce")()
    with pytest.raises(InvalidValueError, match="features_only"):
        BACKBONES.load("timm:flat")()
    with pytest.raises(InvalidValueError, match="24 pixels"):
        BACKBONES.load("timm:odd")()
    backbone = BACKBONES.load("timm:same")()
    with pytest.raises(InvalidValueError, match=r"320 pixels.*canvas_size"):
        backbone(torch.rand(1, 1, 320, 320))
    backbone.load_start(Extractor(16).state_dict())
    with pytest.raises(InvalidValueError, match="timm's same"):
        backbone.load_start({"early.weight": torch.zeros(1)})


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[timm\]"'):
        BACKBONES.load("timm:convnext_tiny")()


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.filterwarnings("ignore")  # timm's own
def test_timm_itself():
    backbone = BACKBONES.load("timm:convnext_atto")()
    with torch.no_grad():
        assert backbone(torch.rand(1, 1, 112, 112)).shape == (1, backbone.channels, 7, 7)
    with pytest.raises(NotFoundError, match="convne"):
        BACKBONES.load("timm:convnext_atom")()
