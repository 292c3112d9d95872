"""A small bundle, made without torch: tests of inference must run where training is not installed."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from sonoseek.preprocessing import PreprocessingRecipe

SIZE, DIM, CELLS = 32, 8, 2


def tiny_model(outputs=("logits", "embedding", "evidence"), *, seed=0, dim=DIM, cells=CELLS) -> bytes:
    """Evidence = a fixed 1×1 mix of each cell's mean; embedding and logits as in every bundle."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    arrays = {
        "mix": rng.normal(size=(dim, 1, 1, 1)).astype(np.float32),
        "weight": rng.normal(size=(3, dim)).astype(np.float32),
        "bias": rng.normal(size=3).astype(np.float32),
    }
    nodes = [
        helper.make_node("Relu", ["canvas"], ["grey"]),
        helper.make_node(
            "AveragePool", ["grey"], ["cells"], kernel_shape=[SIZE // cells] * 2, strides=[SIZE // cells] * 2
        ),
        helper.make_node("Conv", ["cells", "mix"], [outputs[2]]),
        helper.make_node("ReduceMean", [outputs[2]], [outputs[1]], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", [outputs[1], "weight", "bias"], [outputs[0]], transB=1),
    ]
    shapes = {outputs[0]: ["n", 3], outputs[1]: ["n", dim], outputs[2]: ["n", dim, cells, cells]}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("canvas", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model.SerializeToString()


def manifest_for(model: bytes, *, seed=0, dim=DIM, cells=CELLS) -> dict:
    rng = np.random.default_rng(seed)
    rng.normal(size=(dim, 1, 1, 1))
    weight = rng.normal(size=(3, dim)).astype(np.float32)
    bias = rng.normal(size=3).astype(np.float32)
    return {
        "format": 2,
        "name": "test",
        "version": "0.0.1",
        "sonoseek": "0.1.0",
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "classes": ["normal", "benign", "malignant"],
        "preprocessing": PreprocessingRecipe(canvas_size=SIZE).to_dict(),
        "embedding_dim": dim,
        "grid": [cells, cells],
        "head_weight": weight.tolist(),
        "head_bias": bias.tolist(),
        "temperature": 2.0,
        "abstain_below": 0.5,
        "conformal": {"level": 0.9, "quantile": 0.8},
        "operating_points": {"sensitivity_95": {"threshold": 0.1, "sensitivity": 0.95, "specificity": 0.6}},
        "training": {"datasets": []},
        "licences": {"bundle": "Apache-2.0"},
    }


def write_bundle(folder: Path, *, model: bytes | None = None, seed=0, embedding_dim=DIM, maps=CELLS, **changes) -> Path:
    """Write a bundle whose network is drawn from `seed`; `changes` to its manifest, None drops a key."""
    model = tiny_model(seed=seed, dim=embedding_dim, cells=maps) if model is None else model
    manifest = {**manifest_for(model, seed=seed, dim=embedding_dim, cells=maps), **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "bundle.json").write_text(json.dumps({k: v for k, v in manifest.items() if v is not None}))
    return folder


@pytest.fixture
def bundle_folder(tmp_path):
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def make_bundle(tmp_path):
    """Call it with changes to the manifest, get the folder."""

    def make(**changes):
        return write_bundle(tmp_path / "changed", **changes)

    return make


@pytest.fixture
def make_member(tmp_path):
    """Call it with a name, a seed and changes, get the folder of a bundle that differs from the others."""

    def make(name, **changes):
        return write_bundle(tmp_path / "members" / name, name=name, **changes)

    return make


@pytest.fixture
def other_outputs():
    """A model whose outputs are called otherwise."""
    return tiny_model(outputs=("scores", "embedding", "evidence"))
