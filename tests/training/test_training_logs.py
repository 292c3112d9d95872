"""What a run leaves to look at: the table, the board, the sheet of heatmaps; and what its export was compared on."""

import csv
import json
import sys
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch

from sonoseek.core import BundleError, InvalidValueError, MissingExtraError
from sonoseek.encoder import load_bundle
from sonoseek.training import Upkeep, train
from sonoseek.training import heatmap_sheet as sheets
from sonoseek.training.building import build_network
from sonoseek.training.export import verify_bundle
from sonoseek.training.heatmap_sheet import CAPTION, TILE, draw_sheet, take_examples
from sonoseek.training.prepare import open_choice, prepare
from sonoseek.training.splits import split_sets
from sonoseek.training.tracking import Board, CsvLog


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def watched(tmp_path_factory, cache, tiny_recipe):
    run = tmp_path_factory.mktemp("watched") / "run"
    train(tiny_recipe, data_root=None, run_dir=run, cache=cache, upkeep=Upkeep(tensorboard=True, log_steps=1))
    return run


@pytest.fixture(scope="module")
def parts(cache, tiny_recipe):
    (choice,) = tiny_recipe.datasets
    source = prepare(open_choice(choice, data_root=None), recipe=tiny_recipe.preprocessing_recipe, cache=cache)
    return split_sets(tiny_recipe, [source], fold=None).validation


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_table_has_a_row_per_step_and_epoch(watched):
    rows = rows_of(watched / "metrics.csv")
    metrics = json.loads((watched / "metrics.json").read_text())
    steps = [row for row in rows if row["kind"] == "step"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert [int(row["step"]) for row in steps] == list(range(1, len(steps) + 1))
    assert len(epochs) == len(metrics["epochs"]) == 2
    for row, epoch in zip(epochs, metrics["epochs"], strict=True):
        for name in ("loss", "loss_entropy", "loss_supervised", "loss_instance", "val_accuracy", "val_loss"):
            assert float(row[name]) == pytest.approx(epoch[name], rel=1e-6)
    for row in steps:
        terms = [float(value) for name, value in row.items() if name.startswith("loss_")]
        assert float(row["loss"]) == pytest.approx(sum(terms), rel=1e-5)
        assert 0 < float(row["lr_0"]) < float(row["lr_1"])
        assert row["val_loss"] == ""


def test_the_board_has_curves_and_a_sheet_per_epoch(watched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(watched / "tensorboard"))
    read.Reload()
    tags = read.Tags()
    assert {"step/loss", "step/loss_entropy", "step/lr_1", "epoch/val_loss", "epoch/val_auroc"} <= set(tags["scalars"])
    assert tags["images"] == ["heatmaps"]
    pictures = read.Images("heatmaps")
    assert len(pictures) == 2
    assert (pictures[0].width, pictures[0].height) == (6 * TILE, 2 * TILE + CAPTION)
    rows = rows_of(watched / "metrics.csv")
    wanted = [float(row["loss"]) for row in rows if row["kind"] == "step"]
    assert [event.value for event in read.Scalars("step/loss")] == pytest.approx(wanted, rel=1e-5)
    assert (watched / "tensorboard" / ".gitignore").read_text() == "*\n"  # it shows scans


def test_without_being_asked_there_is_no_board(tiny_recipe, cache, tmp_path):
    recipe = msgspec.structs.replace(tiny_recipe, optimiser=msgspec.structs.replace(tiny_recipe.optimiser, epochs=1))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(recipe, data_root=None, run_dir=tmp_path, cache=cache, on_progress=stop)
    assert not (tmp_path / "tensorboard").exists()


def test_a_missing_tensorboard_is_named_with_its_remedy(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"tensorboard.*\.\[train\]"):
        Board(tmp_path / "board", step=0)


def test_examples_are_spread_over_classes_and_stay_the_same(parts):
    labels = np.concatenate([part.labels for part in parts])
    six = take_examples(parts, count=6)
    counts = np.bincount(six.labels.numpy(), minlength=3)
    there = np.bincount(labels, minlength=3)
    assert len(six) == 6 == len(six.canvases)
    assert np.all((counts >= 2) | (counts == there))
    again = take_examples(parts, count=6)
    assert torch.equal(six.canvases, again.canvases)
    every = take_examples(parts, count=1000)
    assert sorted(every.labels.tolist()) == sorted(labels.tolist())
    assert len(take_examples([], count=6)) == 0


def test_the_sheet_is_warm_where_the_class_is_spoken_for_and_cool_where_against(tiny_recipe, parts):
    network = build_network(tiny_recipe).train()
    examples = take_examples(parts, count=1)
    cells = 64 // network.stride

    def forward(canvases):
        evidence = torch.zeros(len(canvases), 16, cells, cells)
        evidence[:, 0, :, 0] = 50.0  # for, at the left edge
        evidence[:, 0, :, -1] = -50.0  # against, at the right edge
        embedding = evidence.mean((2, 3))
        return type(out)(network.head(embedding), embedding, evidence)

    out = network(examples.canvases)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[:, 0] = 1.0
        network.head.bias.copy_(torch.tensor([0.0, 5.0, 0.0]))
    network.forward = forward
    sheet = draw_sheet(network, examples)
    assert network.training  # left as it was
    assert sheet.shape == (2 * TILE + CAPTION, TILE, 3)
    assert sheet.dtype == np.uint8
    grey, heat, caption = sheet[:TILE], sheet[TILE : 2 * TILE].astype(int), sheet[2 * TILE :]
    assert np.array_equal(grey[..., 0], grey[..., 2])
    edge = TILE // cells // 3
    assert (heat[:, :edge, 0] > heat[:, :edge, 2] + 50).all()
    assert (heat[:, -edge:, 2] > heat[:, -edge:, 0]).all()
    middle = heat[:, TILE // 2 - edge : TILE // 2 + edge]
    assert np.abs(middle[..., 0] - middle[..., 2]).max() < 5
    assert caption.max() > 100


def test_faint_evidence_is_not_stretched_to_full_colour(monkeypatch):
    canvas = np.full((64, 64), 0.5, dtype=np.float32)
    faint = sheets._column(canvas, np.full((4, 4), 0.1), caption="")[TILE : 2 * TILE]
    strong = sheets._column(canvas, np.full((4, 4), 8.0), caption="")[TILE : 2 * TILE]
    assert np.ptp(faint.astype(int), axis=2).max() < 10 < np.ptp(strong.astype(int), axis=2).min()


def test_the_table_goes_on_behind_a_checkpoint_and_mends_a_torn_row(tmp_path):
    path = tmp_path / "metrics.csv"
    table = CsvLog(path, step=0)
    for step in (1, 2, 3):
        table.add("step", epoch=0, step=step, values={"loss": step / 10})
    with path.open("a") as stream:
        stream.write("step,0,4")  # the kill came here
    again = CsvLog(path, step=2)
    again.add("step", epoch=0, step=3, values={"loss": 0.5})
    again.add("epoch", epoch=0, step=3, values={"loss": 0.25, "val_loss": 1.0})  # a column that is new
    again.add("step", epoch=1, step=4, values={"loss": 0.125})
    rows = rows_of(path)
    assert [(row["kind"], row["step"], row["loss"]) for row in rows] == [
        ("step", "1", "0.1"),
        ("step", "2", "0.2"),
        ("step", "3", "0.5"),
        ("epoch", "3", "0.25"),
        ("step", "4", "0.125"),
    ]
    assert [row["val_loss"] for row in rows] == ["", "", "", "1", ""]
    path.write_text("nothing,of,ours\n1,2,3\n")
    CsvLog(path, step=9).add("step", epoch=0, step=1, values={"loss": 1.0})
    assert len(rows_of(path)) == 1


def test_wrong_wishes_are_refused():
    for wrong in ({"checkpoint_minutes": 0.0}, {"checkpoint_steps": -1}, {"log_steps": 0}):
        with pytest.raises(InvalidValueError, match=r"Correct them"):
            Upkeep(**wrong)


def test_the_bundle_says_how_far_it_is_from_the_network_on_real_scans(watched, tiny_recipe, parts, monkeypatch):
    said = load_bundle(watched / "bundle").training["onnx_vs_torch"]
    assert 0 <= said <= 1e-4
    assert json.loads((watched / "metrics.json").read_text())["onnx_vs_torch"] == said
    from safetensors.torch import load_file

    network = build_network(tiny_recipe).eval()
    network.load_state_dict(load_file(watched / "network.safetensors"))
    real = take_examples(parts, count=32).canvases.numpy()
    assert verify_bundle(network, folder=watched / "bundle", canvases=real) <= 1e-4
    forward = network.forward

    def other_on_real_scans(canvases):
        out = forward(canvases)
        return out if len(canvases) in (1, 3) else out._replace(logits=out.logits + 0.01)  # random ones come so many

    network.forward = other_on_real_scans
    assert verify_bundle(network, folder=watched / "bundle") <= 1e-4
    with pytest.raises(BundleError, match="differs"):
        verify_bundle(network, folder=watched / "bundle", canvases=real)
    network.forward = lambda canvases: forward(canvases)._replace(logits=torch.full((len(canvases), 3), torch.nan))
    with pytest.raises(BundleError, match="differs"):
        verify_bundle(network, folder=watched / "bundle")


def test_the_real_scans_are_those_of_the_validation_part(watched, tiny_recipe, cache, tmp_path, monkeypatch):
    from sonoseek.training import run as module

    given = []

    def stop(network, *, folder, metadata, canvases, **rest):
        given.append(canvases)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "export_bundle", stop)
    recipe = msgspec.structs.replace(tiny_recipe, optimiser=msgspec.structs.replace(tiny_recipe.optimiser, epochs=1))
    with pytest.raises(KeyboardInterrupt):
        train(recipe, data_root=None, run_dir=tmp_path, cache=cache)
    (canvases,) = given
    assert canvases.dtype == np.float32
    assert 1 <= len(canvases) <= 32
    assert canvases.min() == -1.0


def test_rounding_may_place_the_close_up_of_few_scans_otherwise_and_nothing_else(watched, tiny_recipe, monkeypatch):
    """Of twenty scans read without a mark two may differ, three may not; with a mark none may."""
    from sonoseek.training import export

    bundle = load_bundle(watched / "bundle")
    monkeypatch.setattr(export, "load_bundle", lambda _: SimpleNamespace(reads_marks=True, recipe=bundle.recipe))
    monkeypatch.setattr(export, "OnnxEncoder", lambda *_, **__: None)
    far: set[float] = set()

    def difference(network, encoder, canvases, *, marks=None):
        return 0.05 if len(canvases) == 1 and float(canvases[0, 0, 0, 0]) in far and marks is None else 1e-6

    monkeypatch.setattr(export, "_difference", difference)
    canvases = np.arange(20, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 8, 8), np.float32) + 2
    far |= {5.0, 9.0}
    assert verify_bundle(None, folder=watched / "bundle", canvases=canvases) == 1e-6
    far |= {11.0}
    with pytest.raises(BundleError, match="differs"):
        verify_bundle(None, folder=watched / "bundle", canvases=canvases)
    far.clear()
    monkeypatch.setattr(export, "_difference", lambda *_, marks=None: 1e-6 if marks is None else 0.05)
    with pytest.raises(BundleError, match="differs"):
        verify_bundle(None, folder=watched / "bundle", canvases=canvases)
