"""The network without its training: a bundle, ONNX Runtime, and the verdict. No torch."""

from sonoseek.encoder.bundle import Bundle, load_bundle
from sonoseek.encoder.canvas_input import PADDING, to_input
from sonoseek.encoder.onnx_encoder import Encoder, Encoding, OnnxEncoder, open_encoder
from sonoseek.encoder.verdict import predict

__all__ = [
    "Bundle",
    "load_bundle",
    "Encoder",
    "Encoding",
    "OnnxEncoder",
    "open_encoder",
    "to_input",
    "PADDING",
    "predict",
]
