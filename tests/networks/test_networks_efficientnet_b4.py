"""EfficientNet-B4 up to stride 16: its padding and its keys."""

import pytest
import torch
from torch.nn import functional

from sonoseek.core import InvalidValueError
from sonoseek.networks.efficientnet_b4 import MOMENTUM, EfficientNetB4Backbone
from sonoseek.networks.same_padding import SamePadConv


def tensorflow_same(x, conv):
    """Padding as TensorFlow computes it, from the output's size."""
    size, kernel, stride = x.shape[-1], conv.kernel_size[0], conv.stride[0]
    missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = missing // 2
    padded = functional.pad(x, (before, missing - before) * 2)
    return functional.conv2d(padded, conv.weight, conv.bias, stride, groups=conv.groups)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_it_pads_as_tensorflow_does_on_an_even_side(kernel, stride):
    conv = SamePadConv(4, 4, kernel, stride, groups=4)
    x = torch.rand(2, 4, 12, 12)
    torch.testing.assert_close(conv(x), tensorflow_same(x, conv))


def test_it_has_the_published_keys_and_number_of_weights():
    backbone = EfficientNetB4Backbone()
    state = backbone.state_dict()
    assert sum(p.numel() for p in backbone.parameters()) == 3_791_504
    shapes = {
        "conv1.weight": (48, 3, 3, 3),
        "blocks.0.depthwise.weight": (48, 1, 3, 3),
        "blocks.2.expand_conv.weight": (144, 24, 1, 1),
        "blocks.6.depthwise.weight": (192, 1, 5, 5),
        "blocks.21.se_reduce.bias": (40,),
        "blocks.22.expand_conv.weight": (960, 160, 1, 1),
        "blocks.22.bn0.running_var": (960,),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes
    assert "blocks.0.expand_conv.weight" not in state
    assert {m.momentum for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {MOMENTUM}


def test_frozen_blocks_keep_their_weights_and_statistics():
    backbone = EfficientNetB4Backbone()
    backbone.freeze(10)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    moving = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    backbone.train()
    for _ in range(2):
        moving.zero_grad()
        backbone(torch.rand(2, 1, 64, 64)).square().mean().backward()
        moving.step()
    changed = {key.split(".")[1] for key, value in backbone.state_dict().items() if not value.equal(before[key])}
    assert changed == {str(number) for number in range(10, 23)}


@pytest.mark.parametrize("count", [0, 24])
def test_more_blocks_than_there_are_cannot_be_frozen(count):
    with pytest.raises(InvalidValueError, match=r"1 … 23"):
        EfficientNetB4Backbone().freeze(count)
