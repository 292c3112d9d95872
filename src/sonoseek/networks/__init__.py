"""The networks that read a canvas. Needs torch: `pip install ".[train]"`.

Every network maps float32 (N, 1, S, S), 0 … 1 inside the scan and exactly −1 in padding, to `NetworkOutput`. In every
one the class heatmap is exact by construction: `embedding` is the plain mean of `evidence` over cells, `logits` are
linear in it. Listing the names imports nothing.
"""

from sonoseek.core import LazyTable

NETWORKS = LazyTable(
    "network",
    {
        "hybrid": "sonoseek.networks.hybrid:HybridNetwork",
        "outline": "sonoseek.networks.outline:OutlineNetwork",
        "lesion_pooling": "sonoseek.networks.lesion_pooling:LesionPoolingNetwork",
        "plain": "sonoseek.networks.plain:PlainNetwork",
        "cnn_only": "sonoseek.networks.cnn_only:cnn_only",
        "rnn_only": "sonoseek.networks.rnn_only:RNNOnlyNetwork",
        "paper_hybrid": "sonoseek.networks.paper_hybrid:PaperHybridNetwork",
    },
    extra="train",
)
"""Name → class; built as `NETWORKS.load(name)(backbone, classes=…, embedding_dim=…)`.

Those in `OWN_READERS` are built with None for the backbone.
"""

OWN_READERS = ("cnn_only", "rnn_only", "paper_hybrid")
"""Networks that read pixels their own way and refuse a backbone."""

NO_BACKBONE = "none"
"""What a recipe says for their backbone."""

BACKBONES = LazyTable(
    "backbone",
    {
        "squeezenet": "sonoseek.networks.squeezenet:SqueezeNetBackbone",
        "mobilenet-v2": "sonoseek.networks.mobilenet_v2:MobileNetV2Backbone",
        "resnet50-v2": "sonoseek.networks.resnet50_v2:ResNet50V2Backbone",
        "vgg16": "sonoseek.networks.vgg16:VGG16Backbone",
        "inception-v3": "sonoseek.networks.inception_v3:InceptionV3Backbone",
        "resnet50": "sonoseek.networks.resnet50:ResNet50Backbone",
        "densenet121": "sonoseek.networks.densenet121:DenseNet121Backbone",
        "efficientnet-b0": "sonoseek.networks.efficientnet_b0:EfficientNetB0Backbone",
        "mobilenet-edgetpu": "sonoseek.networks.mobilenet_edgetpu:MobileNetEdgeTPUBackbone",
        "resnet50-v2-slim": "sonoseek.networks.resnet50_v2_slim:ResNet50V2SlimBackbone",
        "efficientnet-b4": "sonoseek.networks.efficientnet_b4:EfficientNetB4Backbone",
        "paper-cnn": "sonoseek.networks.paper_cnn:PaperCNNBackbone",
        "tiny": "sonoseek.networks.tiny:TinyBackbone",
    },
    extra="train",
    families={"timm:": "sonoseek.networks.timm_model:TimmBackbone"},
)
"""Name → class; built as `BACKBONES.load(name)()`. `timm:<model>` names any feature extractor of timm."""

__all__ = ["NETWORKS", "OWN_READERS", "NO_BACKBONE", "BACKBONES"]
