"""Backbones with their start weights and nothing trained, as ONNX, for the benchmark's frozen peers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from sonoseek.core import NotFoundError
from sonoseek.core.files import write_atomically
from sonoseek.evaluate.systems.frozen import frozen
from sonoseek.evaluate.systems.linear import LinearSystem
from sonoseek.networks import BACKBONES
from sonoseek.networks.start_weights import load_start_weights
from sonoseek.training.export import graph_bytes

CANVAS = 224


class StartFile(NamedTuple):
    """Start weights of a backbone: file and the sha256 that it must have."""

    file: str
    sha256: str


START: Mapping[str, StartFile] = {
    "squeezenet": StartFile(
        "squeezenet1.1_gluon.safetensors", "a9b6dc6fd48c4f12fb0be691bbcc631266bcdd055ef7b2500ae9e5a6489cce85"
    ),
    "mobilenet-v2": StartFile(
        "mobilenetv2_1.0_gluon_bn.safetensors", "a3ede7241ce06c77f01fa0fa951b5805ff48585a101a5afe5966f145c2debdfa"
    ),
    "resnet50-v2": StartFile(
        "resnet50v2_gluon_stage3.safetensors", "dd1f18747a3cbf54bb1acf3a4e9b649facfe8d085529691648f274be05854573"
    ),
}
"""Backbone → its ImageNet weights (MXNet Gluon's, by way of the ONNX model zoo; Apache-2.0)."""


class _MeanFeatures(nn.Module):
    """The mean of a backbone's map over its cells."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, canvas: Tensor) -> Tensor:
        features: Tensor = self.backbone(canvas).mean((2, 3))
        return features


def frozen_system(name: str, *, weights_root: Path | None, cache: Path) -> LinearSystem:
    """The benchmark's peer of that name, "frozen-squeezenet" ….

    Raises:
        NotFoundError, InvalidValueError: as `export_frozen`.
    """
    backbone = name.removeprefix("frozen-")
    return frozen(export_frozen(backbone, weights_root=weights_root, cache=cache), backbone=backbone, cache=cache)


def export_frozen(backbone: str, *, weights_root: Path | None, cache: Path) -> Path:
    """Write `frozen-<backbone>-<hash>.onnx` into `cache`, or take the one that is there.

    Args:
        backbone: in `START`.
        weights_root: folder with the start weights.
        cache: folder for the file; keep it out of any repository.

    Raises:
        NotFoundError: an unknown backbone, or its weights are not there.
        InvalidValueError: the file has another sha256.
    """
    if backbone not in START:
        raise NotFoundError(f"no start weights are known for {backbone!r}; there are some for: {', '.join(START)}.")
    if weights_root is None:
        raise NotFoundError("no folder with start weights is named; set SONOSEEK_WEIGHTS or say --weights.")
    start = START[backbone]
    key = hashlib.sha256(f"{start.sha256} {CANVAS} 1".encode()).hexdigest()[:12]
    path = cache / f"frozen-{backbone}-{key}.onnx"
    if path.is_file():
        return path
    network = BACKBONES.load(backbone)()
    network.load_start(load_start_weights(weights_root / start.file, sha256=start.sha256))
    content = graph_bytes(_MeanFeatures(network).eval(), canvas_size=CANVAS, outputs=("features",))
    cache.mkdir(parents=True, exist_ok=True)
    return write_atomically(path, content)
