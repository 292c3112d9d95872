"""The networks that read a canvas. Needs torch: `pip install "sonoseek[train]"`.

Every network maps float32 (N, 1, S, S), 0 … 1 inside the scan and exactly −1 in padding, to `NetworkOutput`. In every
one the class heatmap is exact by construction: `embedding` is the plain mean of `evidence` over cells, `logits` are
linear in it. Listing the names imports nothing.
"""

from sonoseek.core import LazyTable

NETWORKS = LazyTable(
    "network",
    {"hybrid": "sonoseek.networks.hybrid:HybridNetwork"},
    extra="train",
)
"""Name → class; built as `NETWORKS.load(name)(backbone, classes=…, embedding_dim=…)`."""

BACKBONES = LazyTable(
    "backbone",
    {
        "squeezenet": "sonoseek.networks.squeezenet:SqueezeNetBackbone",
        "mobilenet-v2": "sonoseek.networks.mobilenet_v2:MobileNetV2Backbone",
        "resnet50-v2": "sonoseek.networks.resnet50_v2:ResNet50V2Backbone",
        "tiny": "sonoseek.networks.tiny:TinyBackbone",
    },
    extra="train",
)
"""Name → class; built as `BACKBONES.load(name)()`."""

__all__ = ["NETWORKS", "BACKBONES"]
