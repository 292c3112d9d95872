"""A recipe as a system of the benchmark: trained on a protocol's training sides, never on its test side."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from sonoseek.core import InvalidValueError, NotFoundError, SplitError
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import load_bundle, open_encoder
from sonoseek.evaluate import evaluate, open_context, rescore
from sonoseek.evaluate.protocols import Round
from sonoseek.evaluate.protocols.busi import repeated_folds
from sonoseek.training import train
from sonoseek.training.frozen import START, export_frozen
from sonoseek.training.module import close_unlearnt
from sonoseek.training.options import Machine
from sonoseek.training.recipe import DatasetChoice
from sonoseek.training.splits import given_sets
from sonoseek.training.systems import RecipeSystem, recipe_for
from sonoseek.training.trainer import BEST


class TinyPhantoms:
    """Three dozen phantoms in two folds."""

    name = "tiny-phantoms"
    title = "phantoms"
    description = "Three dozen phantoms, two folds."
    exclusions = "nothing"
    guarded = True
    drops_near_duplicates = False

    def open(self, data_root):
        return {"phantom": PhantomDataset(count=36, seed=3)}

    def rounds(self, datasets):
        return repeated_folds(datasets["phantom"], seeds=(0,), folds=2)


@pytest.fixture(scope="module")
def patient_recipe(tiny_recipe):
    optimiser = msgspec.structs.replace(tiny_recipe.optimiser, epochs=3, patience=1, epoch_scans=8)
    return msgspec.structs.replace(tiny_recipe, name="tiny-system", optimiser=optimiser)


def test_a_round_is_trained_in_one_process(tiny_recipe, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="Leave devices and nodes at 1"):
        RecipeSystem(tiny_recipe, data_root=None, weights_root=None, cache=tmp_path, machine=Machine(devices=2))


@pytest.mark.slow
def test_a_recipe_is_trained_per_round_and_scored(patient_recipe, tmp_path: Path) -> None:
    context = open_context(TinyPhantoms(), data_root=None, cache=tmp_path)
    machine = Machine(accelerator="cpu", precision="bf16")
    system = RecipeSystem(
        patient_recipe, data_root=None, weights_root=None, cache=tmp_path / "prepared", machine=machine
    )
    told: list[tuple[str, int, int]] = []
    places = {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    evaluate(context, system, on_progress=lambda *step: told.append(step), **places)
    assert told[0][0] == "learning"
    rounds = rescore(tmp_path / "out")["tiny-phantoms"].systems[system.name].results.rounds
    assert len({row.identity for row in rounds}) == 2
    for round_ in context.rounds:
        run = tmp_path / "runs" / "tiny-phantoms" / "tiny-system" / round_.label / "training"
        bundle = load_bundle(run / "bundle")
        seen = set(bundle.training["cases"]["phantom"])
        assert seen == set(round_.train["phantom"]) | set(round_.validation["phantom"])
        assert not seen & set(round_.test["phantom"])
        assert bundle.training["round"]["digest"] == round_.digest
        assert "held out and not read" in bundle.training["protocol"]
        assert not (run / "test_predictions.npz").exists()
        (call,) = json.loads((run / "environment.json").read_text())
        assert (call["accelerator"], call["precision"]) == ("cpu", "bf16")
        epochs = json.loads((run / "metrics.json").read_text())["epochs"]
        assert 1 <= len(epochs) <= 3
    # nothing is trained twice
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("metrics.json")}
    evaluate(context, system, **places)
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("metrics.json")}


def test_the_weights_of_the_best_epoch_are_kept(patient_recipe, tmp_path: Path) -> None:
    dataset = PhantomDataset(count=36, seed=3)
    round_ = repeated_folds(dataset, seeds=(0,), folds=2)[0]
    recipe = msgspec.structs.replace(
        patient_recipe, optimiser=msgspec.structs.replace(patient_recipe.optimiser, epochs=6, lr=0.3, patience=1)
    )
    run = tmp_path / "run"
    train(recipe, data_root=None, run_dir=run, round_=round_, datasets={"phantom": dataset})
    epochs = json.loads((run / "metrics.json").read_text())["epochs"]
    losses = [epoch["val_loss"] for epoch in epochs]
    assert len(losses) < 6, "such a rate makes it worse soon, and patience ends it"
    best = torch.load(run / BEST, weights_only=True)
    assert best["epoch"] == int(np.argmin(losses))


def test_an_epoch_draws_no_more_than_it_may(tiny_recipe, make_dataset, tmp_path: Path) -> None:
    from sonoseek.training.batches import TrainingBatches
    from sonoseek.training.prepare import prepare
    from sonoseek.training.splits import split_sets

    source = prepare(make_dataset(), recipe=tiny_recipe.preprocessing_recipe, cache=tmp_path)
    parts = split_sets(tiny_recipe, [source], fold=None).train
    for limit, wanted in ((0, len(parts[0])), (10, 10), (1_000, len(parts[0]))):
        optimiser = msgspec.structs.replace(tiny_recipe.optimiser, epoch_scans=limit)
        batches = TrainingBatches(parts, msgspec.structs.replace(tiny_recipe, optimiser=optimiser))
        drawn = sum(len(batch.labels) // 2 for batch in batches)
        assert abs(drawn - wanted) <= 1


def test_a_recipe_takes_the_protocol_s_datasets(tiny_recipe) -> None:
    beside = DatasetChoice(name="phantom", folded=False)
    tested = DatasetChoice(name="busbra", folded=False)
    recipe = msgspec.structs.replace(tiny_recipe, datasets=(DatasetChoice(name="breast"), beside, tested))
    round_ = Round(seed=0, fold=0, train={"busi": ("a", "b")}, validation={"busi": ("c",)}, test={"busbra": ("d",)})

    class Record:
        def __init__(self, pathology: str) -> None:
            self.pathology = pathology

    records = {"busi": {"a": Record("benign"), "b": Record("malignant"), "c": Record("normal")}}
    chosen = recipe_for(recipe, round_, records).datasets
    assert [choice.name for choice in chosen] == ["busi", "phantom"]
    assert chosen[0].classes == ("benign", "malignant")


def test_a_set_that_is_tested_is_never_learnt(tiny_recipe) -> None:
    round_ = Round(seed=0, fold=0, train={}, validation={}, test={"memory": ("case 1",)})

    class Source:
        name = "memory"
        records = ()
        case_ids = np.array([], dtype=str)

    with pytest.raises(SplitError, match="must not be learnt"):
        given_sets(tiny_recipe, [Source()], round_)


def test_a_class_that_was_never_learnt_is_never_said(tiny_recipe) -> None:
    from sonoseek.training.building import build_network

    network = build_network(tiny_recipe).eval()
    close_unlearnt(network, torch.tensor([False, True, True]))
    with torch.no_grad():
        logits = network(torch.rand(4, 1, 64, 64)).logits
    assert torch.all(logits.softmax(1)[:, 0] < 1e-20)
    assert torch.all((logits / 5).softmax(1)[:, 0] < 1e-6)


def test_frozen_features_need_their_weights(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="start weights"):
        export_frozen("squeezenet", weights_root=None, cache=tmp_path)
    with pytest.raises(NotFoundError, match=r"no start weights at .*squeezenet"):
        export_frozen("squeezenet", weights_root=tmp_path, cache=tmp_path)
    with pytest.raises(NotFoundError, match="'tiny'; there are some for: squeezenet"):
        export_frozen("tiny", weights_root=tmp_path, cache=tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(
    "backbone", [b if b == "squeezenet" else pytest.param(b, marks=pytest.mark.long) for b in START]
)
def test_frozen_features_are_the_backbone_s(backbone: str, real_data: Path, tmp_path: Path) -> None:
    import onnxruntime

    from sonoseek.networks import BACKBONES
    from sonoseek.networks.start_weights import load_start_weights

    weights = real_data.parent / "weights"
    if not weights.is_dir():
        pytest.skip("no start weights beside the data")
    path = export_frozen(backbone, weights_root=weights, cache=tmp_path)
    assert export_frozen(backbone, weights_root=weights, cache=tmp_path) == path
    network = BACKBONES.load(backbone)()
    network.load_start(load_start_weights(weights / START[backbone].file))
    canvas = torch.rand(2, 1, 224, 224)
    with torch.no_grad():
        wanted = network.eval()(canvas).mean((2, 3)).numpy()
    found = onnxruntime.InferenceSession(str(path)).run(None, {"canvas": canvas.numpy()})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_a_bundle_without_normals_opens(tiny_recipe, tmp_path: Path) -> None:
    """From a round whose training side has two classes: the third is closed in the bundle itself."""
    dataset = PhantomDataset(count=40, seed=5)
    two = [r for r in dataset.records() if r.pathology != "normal"]
    from sonoseek.datasets import Subset, inner_validation

    part = Subset(dataset, [r.case_id for r in two])
    inner = inner_validation(part.records(), [r.case_id for r in two], fraction=0.25, seed=0)
    round_ = Round(seed=0, fold=0, train={"phantom": inner.train}, validation={"phantom": inner.test}, test={})
    records = {"phantom": {r.case_id: r for r in two}}
    recipe = recipe_for(tiny_recipe, round_, records)
    folder = train(recipe, data_root=None, run_dir=tmp_path / "run", round_=round_, datasets={"phantom": part})
    logits = open_encoder(folder).encode(np.random.default_rng(0).random((3, 1, 64, 64), dtype=np.float32)).logits
    assert np.all(logits[:, 0] < -90)
