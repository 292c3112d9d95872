"""Every network of the table, and every backbone under `plain`, out to a bundle and back through ONNX Runtime."""

import onnx
import pytest
import torch
from networks_made import make

from sonoseek.encoder.bundle import MODEL_FILE
from sonoseek.networks import BACKBONES, OWN_READERS
from sonoseek.networks.many_views import ManyViewNetwork
from sonoseek.preprocessing import PreprocessingRecipe
from sonoseek.training import export
from sonoseek.training.export import BundleMetadata, export_bundle, verify_bundle

QUICK = ("paper-cnn", "tiny", "mobilenet-v2")
"""The others take their time, for the exporter walks through every layer: the long tests have them."""

METADATA = BundleMetadata(
    name="x",
    version="1",
    classes=("normal", "benign", "malignant"),
    preprocessing=PreprocessingRecipe(canvas_size=64),
    temperature=1.0,
    abstain_below=0.5,
    conformal={"level": 0.9, "quantile": 0.9},
    operating_points={},
    training={},
    licences={},
)


@pytest.mark.parametrize(
    ("network", "backbone"),
    [
        *[("plain", b) if b in QUICK else pytest.param("plain", b, marks=pytest.mark.long) for b in BACKBONES],
        ("hybrid", "tiny"),
        *[(n, "none") for n in OWN_READERS],
    ],
)
def test_a_bundle_says_what_the_network_says(network, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "MAX_BYTES", 10**9)  # peers may be larger than what is shipped
    built = make(network, backbone)
    folder = export_bundle(built, folder=tmp_path, metadata=METADATA)  # opens what it wrote and compares, to 1e-4
    with torch.no_grad():
        built.head.bias += 1.0
    with pytest.raises(export.BundleError, match="differs"):
        verify_bundle(built, folder=folder)


def test_an_lstm_is_one_operator_and_its_gates_are_in_order(tmp_path):
    built = make("rnn_only", "none")
    export_bundle(ManyViewNetwork(built), folder=tmp_path, metadata=METADATA)
    operators = [node.op_type for node in onnx.load(tmp_path / MODEL_FILE).graph.node]
    assert operators.count("LSTM") == 1
    assert not {"Loop", "Scan", "If"} & set(operators)
