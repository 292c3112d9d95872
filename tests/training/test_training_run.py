"""The road from recipe to bundle, walked with a tiny network on phantoms."""

import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sonoseek.apps.cli.data import write_phantoms
from sonoseek.core import BundleError, DatasetError, InvalidValueError, NotFoundError, Scan
from sonoseek.datasets import open_dataset
from sonoseek.encoder import load_bundle, open_encoder
from sonoseek.training import export_run, train, train_folds
from sonoseek.training.building import as_served, build_network
from sonoseek.training.bundle_metadata import _which
from sonoseek.training.calibrate import BATCH, ExportedModel, read_parts
from sonoseek.training.export import BundleMetadata, export_bundle, verify_bundle
from sonoseek.training.prepare import open_choice, prepare
from sonoseek.training.recipe import DatasetChoice, recipe_to_dict
from sonoseek.training.splits import split_sets
from sonoseek.training.trainer import CHECKPOINT


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache, tiny_recipe):
    """A finished run of fold 0, with the steps that it told of."""
    steps = []
    run = tmp_path_factory.mktemp("run") / "fold"
    bundle = train(
        tiny_recipe, data_root=None, run_dir=run, fold=0, cache=cache, on_progress=lambda *s: steps.append(s)
    )
    return run, bundle, steps


def with_changes(recipe, **optimiser):
    return msgspec.structs.replace(recipe, optimiser=msgspec.structs.replace(recipe.optimiser, **optimiser))


def facts_for(recipe):
    return BundleMetadata(
        name="x",
        version="1",
        classes=("normal", "benign", "malignant"),
        preprocessing=recipe.preprocessing_recipe,
        temperature=1.0,
        abstain_below=0.5,
        conformal={"level": 0.9, "quantile": 0.9},
        operating_points={},
        training={},
        licences={},
    )


def test_a_run_leaves_what_it_promises(finished, tiny_recipe):
    run, bundle, steps = finished
    assert bundle == run / "bundle"
    assert {path.name for path in run.iterdir()} == {
        "recipe.json",
        "environment.json",
        "metrics.json",
        "metrics.csv",
        "network.safetensors",
        "checkpoints",
        "bundle",
        "test_predictions.npz",
    }
    assert steps[-1][0] == steps[-1][1] == len(steps)
    metrics = json.loads((run / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [0, 1]
    assert {"loss", "val_accuracy", "val_auroc"} <= set(metrics["epochs"][0])
    test = metrics["figures"]["test"]["phantom"]
    assert 0 <= test["accuracy"] <= 1
    assert 0 <= test["precision_at_5"] <= 1
    with np.load(run / "test_predictions.npz") as said:
        assert len(said["case_ids"]) == test["scans"] == len(said["logits"])
    assert json.loads((run / "recipe.json").read_text())["optimiser"]["epochs"] == 2


def test_the_bundle_agrees_with_the_network_that_was_trained(finished, tiny_recipe):
    run, folder, _ = finished
    network = build_network(tiny_recipe)
    network.load_state_dict(load_file(run / "network.safetensors"))
    assert verify_bundle(network, folder=folder) < 1e-4
    bundle = load_bundle(folder)
    assert bundle.head_weight.tobytes() == network.head.weight.detach().numpy().tobytes()
    with np.load(run / "test_predictions.npz") as said:
        seen = set(bundle.training["cases"]["phantom"])
        assert seen
        assert not seen & set(said["case_ids"].tolist())
    encoder = open_encoder(bundle)
    canvas = np.random.default_rng(0).random((2, 1, 64, 64), dtype=np.float32)
    canvas[:, :, :16] = -1
    evidence = encoder.encode(canvas).evidence
    assert np.all(evidence[:, :, 0] == 0)
    assert np.abs(evidence[:, :, 1:]).max() > 0


def test_the_exported_model_reads_parts_as_the_network_does(finished, tiny_recipe, cache):
    run, folder, _ = finished
    network = build_network(tiny_recipe)
    network.load_state_dict(load_file(run / "network.safetensors"))
    source = prepare(
        open_choice(tiny_recipe.datasets[0], data_root=None), recipe=tiny_recipe.preprocessing_recipe, cache=cache
    )
    parts = split_sets(tiny_recipe, [source], fold=0).test
    told = read_parts(network, parts)
    got = read_parts(ExportedModel((folder / "model.onnx").read_bytes()), parts)
    assert len(got[2]) == len(parts[0]) > BATCH
    for ours, theirs in zip(got, told, strict=True):
        assert np.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(("views", "close_up"), [(False, False), (True, False), (True, True)])
def test_what_is_served_is_in_the_mode_of_its_network(tiny_recipe, views, close_up):
    recipe = msgspec.structs.replace(tiny_recipe, network="lesion_pooling", many_views=views, close_up=close_up)
    network = build_network(recipe)
    assert not any(part.training for part in as_served(network.eval(), recipe).modules())
    assert as_served(network.train(), recipe).training


def test_another_network_is_caught(finished, tiny_recipe):
    _, folder, _ = finished
    with pytest.raises(BundleError, match="differs"):
        verify_bundle(build_network(tiny_recipe), folder=folder)


def test_the_model_file_names_no_machine(finished):
    content = (finished[1] / "model.onnx").read_bytes()
    for trace in (b"site-packages", b"/home/", b'.py"', b"stack_trace", b"sonoseek/networks"):
        assert trace not in content


def test_the_card_says_data_protocol_figures_and_limits(finished):
    card = (finished[1] / "MODEL_CARD.md").read_text()
    for needed in ("not for diagnosis", "phantom", "accuracy", "Fold 0 of 3", "another hospital", "Licences", "Random"):
        assert needed in card


def test_a_finished_run_is_not_trained_again(finished, tiny_recipe, cache):
    run, bundle, _ = finished
    before = (run / "metrics.json").stat().st_mtime_ns
    assert train(tiny_recipe, data_root=None, run_dir=run, fold=0, cache=cache, resume=True) == bundle
    assert (run / "metrics.json").stat().st_mtime_ns == before
    with pytest.raises(InvalidValueError, match="resume"):
        train(tiny_recipe, data_root=None, run_dir=run, fold=0, cache=cache)
    for recipe, fold in ((tiny_recipe, 1), (with_changes(tiny_recipe, epochs=3), 0)):
        with pytest.raises(InvalidValueError, match="another recipe, fold or round"):
            train(recipe, data_root=None, run_dir=run, fold=fold, cache=cache, resume=True)


def test_a_stopped_run_goes_on_as_if_unbroken(finished, tiny_recipe, cache, tmp_path):
    def stop_in_second_epoch(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(tiny_recipe, data_root=None, run_dir=tmp_path, fold=0, cache=cache, on_progress=stop_in_second_epoch)
    assert (tmp_path / CHECKPOINT).is_file()
    assert not (tmp_path / "metrics.json").exists()
    train(tiny_recipe, data_root=None, run_dir=tmp_path, fold=0, cache=cache, resume=True)
    unbroken, resumed = load_file(finished[0] / "network.safetensors"), load_file(tmp_path / "network.safetensors")
    for name, wanted in unbroken.items():
        torch.testing.assert_close(resumed[name], wanted, rtol=1e-3, atol=1e-4, msg=name)
    epochs = json.loads((tmp_path / "metrics.json").read_text())["epochs"]
    assert [epoch["epoch"] for epoch in epochs] == [0, 1]


def test_training_learns_and_the_mean_of_the_weights_follows(finished, tiny_recipe):
    trained, start = load_file(finished[0] / "network.safetensors"), build_network(tiny_recipe).state_dict()
    moved = [float((trained[name] - start[name]).abs().max()) for name in start]
    assert min(moved) > 0  # every weight, the row context included
    assert build_network(tiny_recipe).state_dict()["head.weight"].equal(start["head.weight"])


@pytest.mark.slow
def test_folds_give_a_summary_that_calibrates_the_final_bundle(tiny_recipe, cache, tmp_path, monkeypatch):
    import shutil

    recipe = msgspec.structs.replace(with_changes(tiny_recipe, epochs=1), folds=2)
    (tmp_path / "folds").mkdir()
    shutil.copytree(cache, tmp_path / "folds" / "prepared")
    told = []
    bundles = train_folds(recipe, data_root=None, run_dir=tmp_path / "folds", on_progress=lambda *s: told.append(s))
    assert [bundle.parent.name for bundle in bundles] == ["fold-0", "fold-1"]
    assert told[-1][0] == told[-1][1]
    summary = json.loads((tmp_path / "folds" / "summary.json").read_text())
    accuracy = summary["phantom"]["accuracy"]
    assert len(accuracy["values"]) == 2
    assert accuracy["mean"] == pytest.approx(np.mean(accuracy["values"]))
    tested = [set(np.load(b.parent / "test_predictions.npz")["case_ids"].tolist()) for b in bundles]
    assert len(set.union(*tested)) == sum(map(len, tested)) == 36
    final = train(recipe, data_root=None, run_dir=tmp_path / "final", cache=cache, cross_validation=tmp_path / "folds")
    assert load_bundle(final).training["calibrated_on"] == "out-of-fold predictions"
    card = (final / "MODEL_CARD.md").read_text()
    assert "cross-validated" in card
    assert "2 networks trained by the same recipe" in card
    out = export_run(tmp_path / "final", tmp_path / "out")
    assert load_bundle(out).bundle_id == load_bundle(final).bundle_id


def test_a_card_says_whether_the_folds_were_trained_alike(tiny_recipe):
    folds = json.loads(json.dumps({**recipe_to_dict(tiny_recipe), "fold": 0}))
    assert _which(folds, msgspec.structs.replace(tiny_recipe, name="other", version="9")) == "the same recipe"
    assert _which(folds, with_changes(tiny_recipe, epochs=9)).startswith("another recipe")


def test_what_is_not_there_is_said(tiny_recipe, cache, tmp_path):
    with pytest.raises(NotFoundError, match="no finished run"):
        export_run(tmp_path, tmp_path / "out")
    missing = msgspec.structs.replace(
        tiny_recipe, backbone="squeezenet", start=msgspec.structs.replace(tiny_recipe.start, weights="none.safetensors")
    )
    with pytest.raises(NotFoundError, match=r"start weights.*random"):
        train(missing, data_root=tmp_path / "data", run_dir=tmp_path / "a", cache=cache)
    with pytest.raises(NotFoundError, match="backbone"):
        train(
            msgspec.structs.replace(tiny_recipe, backbone="tine"), data_root=None, run_dir=tmp_path / "b", cache=cache
        )


def test_the_eight_views_export_with_their_finer_cells(tiny_recipe, tmp_path):
    from sonoseek.networks.many_views import ManyViewNetwork

    recipe = msgspec.structs.replace(tiny_recipe, backbone="squeezenet")
    network = build_network(recipe)
    with torch.no_grad():
        network.rows.speak.weight.normal_(std=0.02)  # as after training
    folder = export_bundle(ManyViewNetwork(network), folder=tmp_path, metadata=facts_for(recipe))
    bundle = load_bundle(folder)
    assert bundle.grid == (8, 8)  # of 64 pixels, not 4
    canvas = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)
    canvas[..., :16] = -1
    said, mirrored = (open_encoder(bundle).encode(c) for c in (canvas, np.ascontiguousarray(canvas[..., ::-1])))
    np.testing.assert_allclose(said.embedding, mirrored.embedding, rtol=1e-4, atol=1e-4)
    assert np.all(said.evidence[..., :1] == 0)


def test_too_large_a_model_is_refused(tiny_recipe, tmp_path, monkeypatch):
    from sonoseek.training import export

    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    with pytest.raises(BundleError, match="at most"):
        export_bundle(build_network(tiny_recipe), folder=tmp_path, metadata=facts_for(tiny_recipe))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_bar_shows_and_leaves_nothing_behind(tiny_recipe, cache, tmp_path):
    code = (
        "import sys; from pathlib import Path; from sonoseek.training import train;"
        "from sonoseek.training.recipe import parse_recipe;"
        f"train(parse_recipe(sys.stdin.read()), data_root=None, run_dir=Path('run'), cache=Path({str(cache)!r}),"
        "progress_bar=True)"
    )
    from pathlib import Path

    text = (Path(__file__).parents[2] / "recipes" / "tiny.toml").read_text().replace("count = 48", "count = 36")
    text = text.replace("canvas_size = 96", "canvas_size = 64").replace("epochs = 2", "epochs = 1")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        input=text,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "min_left" in done.stdout + done.stderr
    assert "Warning" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_importing_the_lab_imports_no_torch():
    code = "import sys, sonoseek.training as t; t.load_recipe; assert not {'torch', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_held_out_fold_is_never_calibrated_by_the_folds(tiny_recipe, tmp_path):
    with pytest.raises(InvalidValueError, match="test labels"):
        train(tiny_recipe, data_root=None, run_dir=tmp_path / "run", fold=0, cross_validation=tmp_path / "folds")


def test_what_is_missing_is_said_before_the_folder_is_taken(tiny_recipe, tmp_path):
    folder = tmp_path / "run"
    start = msgspec.structs.replace(tiny_recipe.start, weights="nowhere.safetensors")
    with pytest.raises(NotFoundError, match="no start weights"):
        train(msgspec.structs.replace(tiny_recipe, start=start), data_root=None, run_dir=folder)
    with pytest.raises(BundleError):
        train(tiny_recipe, data_root=None, run_dir=folder, teachers=[tmp_path / "no-teacher"])
    real = msgspec.structs.replace(tiny_recipe, datasets=(DatasetChoice(name="busi"),))
    with pytest.raises(DatasetError):
        train(real, data_root=tmp_path / "nowhere", run_dir=folder)
    assert not folder.exists()


@pytest.mark.slow
def test_the_bundle_tells_which_scans_it_has_learnt_from(tmp_path, tiny_recipe):
    write_phantoms(tmp_path / "archive", count=24, seed=12)
    choices = (DatasetChoice(name="folder", root=str(tmp_path / "archive")), DatasetChoice(name="phantom", count=12))
    recipe = with_changes(msgspec.structs.replace(tiny_recipe, datasets=choices), epochs=1)
    bundle = load_bundle(train(recipe, data_root=None, run_dir=tmp_path / "run", fold=0))
    assert bundle.training_scans is not None
    learnt = set(bundle.training["cases"]["folder"])
    assert dict(bundle.training_scans.counts) == {"folder": len(learnt)}  # phantoms made on the fly show no patient
    assert len(bundle.training_scans) == len(learnt)
    archive = open_dataset("folder", tmp_path / "archive")
    told = {record.case_id: archive.load(record.case_id, masks=False).scans[0] for record in archive.records()}
    assert len(told) - len(learnt) > 0
    for case_id, scan in told.items():
        exact, copy = (bundle.training_scans.find(each) for each in (scan, Scan(pixels=scan.pixels[:, ::-1].copy())))
        assert (exact is not None and exact.exact) is (case_id in learnt)
        assert (copy is not None) is (case_id in learnt)
