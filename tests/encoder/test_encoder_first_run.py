"""A network from elsewhere: one that never ends, takes all memory or fails is refused; what ships is not run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sonoseek.core import BundleError
from sonoseek.encoder import OnnxEncoder, first_run, load_bundle, open_encoder
from sonoseek.encoder.bundle import FAST_BUNDLE, is_shipped

Make = Callable[..., Path]
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


@pytest.fixture(autouse=True)
def none_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_run, "_passed", set())


def harmful(kind: str, sound: Path) -> bytes:
    """The tiny network of the tests, whose canvas first goes through a node that loops for ever, or takes memory."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    model = onnx.load(sound / "model.onnx")
    graph = model.graph
    if kind == "loop":
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["state"], ["next"])],
            "body",
            [
                helper.make_tensor_value_info("turn", TensorProto.INT64, []),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
            ],
            [
                helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
            ],
        )
        graph.initializer.append(helper.make_tensor("always", TensorProto.BOOL, [], [True]))
        first = [helper.make_node("Loop", ["", "always", "canvas"], ["through"], body=body)]
    elif kind == "memory":  # 4 TB, of which one number is added
        graph.initializer.append(helper.make_tensor("many", TensorProto.INT64, [1], [1 << 40]))
        first = [
            helper.make_node("Size", ["canvas"], ["size"]),
            helper.make_node("Mul", ["size", "many"], ["count"]),
            helper.make_node("ConstantOfShape", ["count"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Add", ["canvas", "zero"], ["through"]),
        ]
    else:  # a shape that no canvas has
        graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [4], [1, 1, 7, 32]))
        first = [helper.make_node("Reshape", ["canvas", "shape"], ["through"])]
    graph.node[0].input[0] = "through"
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return bytes(model.SerializeToString())


@linux
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("loop", "its first run was stopped after 2 s of CPU; .* loops without end"),
        ("memory", r"at most 4096 MiB|At most 4096 MiB"),
        ("shape", "its first run fails: .*[Rr]eshape"),
    ],
)
def test_a_harmful_network_is_refused_in_time(
    bundle_folder: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    monkeypatch.setattr(first_run, "CPU_S", 2)
    bundle = load_bundle(make_bundle(model=harmful(kind, bundle_folder)))
    began = time.perf_counter()
    for _ in range(2):  # a refusal is not remembered as a pass
        with pytest.raises(BundleError, match=words):
            open_encoder(bundle)
    assert time.perf_counter() - began < 60


@linux
def test_the_clock_ends_it_too(bundle_folder: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_run, "WALL_S", 1.0)
    bundle = load_bundle(make_bundle(model=harmful("loop", bundle_folder)))
    with pytest.raises(BundleError, match="stopped after 1 s"):
        open_encoder(bundle)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_that_takes_the_model_s_place_after_it_was_checked(bundle_folder: Path) -> None:
    bundle = load_bundle(bundle_folder)
    bundle.model_path.unlink()
    os.mkfifo(bundle.model_path)
    with pytest.raises(BundleError, match="no ordinary file"):
        open_encoder(bundle)


def test_a_sound_network_runs_once_a_process(
    bundle_folder: Path, make_member: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONOSEEK_TOKEN", "a-token-of-the-server")
    runs = []
    start = subprocess.run

    def counted(*arguments: object, **options: object) -> object:
        runs.append(arguments)
        assert "SONOSEEK_TOKEN" not in options["env"]  # type: ignore[operator]  # a mapping: it is given
        return start(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(first_run.subprocess, "run", counted)
    canvases = np.zeros((2, 1, 32, 32), np.float32)
    for _ in range(3):
        assert open_encoder(bundle_folder).encode(canvases).embedding.shape == (2, 8)
    assert len(runs) == 1
    open_encoder(make_member("copy"))  # of the same content
    assert len(runs) == 1
    open_encoder(make_member("other", seed=1))
    assert len(runs) == 2


def refused(*arguments: object, **options: object) -> None:
    raise AssertionError("a child was started")


def test_what_ships_is_opened_without_a_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(first_run.subprocess, "run", refused)
    assert open_encoder("fast").bundle.path == FAST_BUNDLE
    copy = shutil.copytree(FAST_BUNDLE, tmp_path / "fast")
    assert not is_shipped(copy)
    with pytest.raises(AssertionError, match="a child was started"):
        open_encoder(copy)


@pytest.mark.parametrize("break_it", ["no-python", "dies"])
def test_a_child_that_does_not_start(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, break_it: str
) -> None:
    if break_it == "dies":
        script = tmp_path / "child.py"
        script.write_text("raise SystemExit(7)")
        monkeypatch.setattr(first_run, "_CHILD", script)
    else:
        monkeypatch.setattr(first_run.sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(BundleError, match=r"did not start|ended with 7"):
        OnnxEncoder(load_bundle(bundle_folder))


def test_other_outputs_keep_their_own_message(make_bundle: Make, other_outputs: bytes) -> None:
    with pytest.raises(BundleError, match=r"maps .* its manifest says"):
        open_encoder(make_bundle(model=other_outputs))


def test_a_relative_folder_and_a_foreign_module_beside_it(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle_folder.parent)
    Path("numpy.py").write_text("raise SystemExit('run')")
    assert open_encoder(bundle_folder.name).bundle.name == "test"
