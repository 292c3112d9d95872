"""Several processes train one network: each sees its part of every batch, and one of them writes."""

import json
import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sonoseek.core import InvalidValueError
from sonoseek.encoder import load_bundle
from sonoseek.training import Machine, distributed, train
from sonoseek.training.batches import PlainBatches, TrainingBatches
from sonoseek.training.building import build_network
from sonoseek.training.calibrate import read_parts
from sonoseek.training.module import TrainingModule
from sonoseek.training.prepare import open_choice, prepare
from sonoseek.training.recipe import parse_recipe
from sonoseek.training.splits import split_sets

RECIPE = """
name = "tiny"
backbone = "{backbone}"
embedding_dim = 16
folds = 3
validation = 0.25
[preprocessing]
canvas_size = 64
[[datasets]]
name = "phantom"
count = 36
[optimiser]
epochs = 2
batch = 6
average = 0.5
"""
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
RANKS = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from sonoseek.training import distributed, load_recipe, run, train
from sonoseek.training.module import TrainingModule

learnt, validated = [], []

def training_step(self, batch, batch_idx):
    learnt.append(batch.groups[: len(batch.groups) // 2])  # of the first views
    return step(self, batch, batch_idx)

def validation_step(self, batch, batch_idx):
    validated.append(batch[0].sum((1, 2, 3)))
    return validate(self, batch, batch_idx)

def fit(module, *args, **kwargs):
    fitted(module, *args, **kwargs)
    rank, size = distributed.ranks()
    weights = {name: tensor.contiguous() for name, tensor in module.averaged.state_dict().items()}
    weights |= {"learnt": torch.cat(learnt), "validated": torch.cat(validated)}
    save_file(weights, f"{sys.argv[2]}.rank{rank}of{size}")
    raise SystemExit

fitted, run.fit = run.fit, fit
step, TrainingModule.training_step = TrainingModule.training_step, training_step
validate, TrainingModule.validation_step = TrainingModule.validation_step, validation_step
train(load_recipe(sys.argv[1]), data_root=None, run_dir=Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="module")
def split(cache, tiny_recipe):
    (choice,) = tiny_recipe.datasets
    source = prepare(open_choice(choice, data_root=None), recipe=tiny_recipe.preprocessing_recipe, cache=cache)
    return split_sets(tiny_recipe, [source], fold=None)


def environment():
    plain = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    return {**plain, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


@pytest.mark.slow
def test_two_processes_write_one_bundle(tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE.format(backbone="tiny"))
    run = tmp_path / "run"
    done = subprocess.run(
        [*TWO, "-m", "--", "sonoseek", "train", tmp_path / "tiny.toml", "--run", run, "--accelerator", "cpu"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("bundle: ") == 1
    load_bundle(run / "bundle")
    (call,) = json.loads((run / "environment.json").read_text())
    assert (call["devices"], call["nodes"]) == (2, 1)
    metrics = json.loads((run / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [0, 1]
    # the figure that both made together, each on its half, is the one that the first computes on all scans afterwards
    said = metrics["figures"]["validation"]["phantom"]["accuracy"]
    assert metrics["epochs"][-1]["val_accuracy"] == pytest.approx(said, abs=1e-6)
    assert len(list((run / "tensorboard").glob("events*"))) == 1


@pytest.mark.long
def test_the_processes_share_the_scans_and_hold_equal_weights_batch_norm_included(tmp_path, split):
    recipe = parse_recipe(RECIPE.format(backbone="mobilenet-v2"))
    (tmp_path / "tiny.toml").write_text(RECIPE.format(backbone="mobilenet-v2"))
    (tmp_path / "ranks.py").write_text(RANKS)
    done = subprocess.run(
        [*TWO, tmp_path / "ranks.py", tmp_path / "tiny.toml", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    ranks = [load_file(f"{tmp_path / 'run'}.rank{rank}of2") for rank in (0, 1)]
    learnt, validated = (torch.cat([rank.pop(name) for rank in ranks]) for name in ("learnt", "validated"))
    batches, wanted = TrainingBatches(split.train, recipe), []
    for batches.epoch in (0, 1):
        wanted += [batch.groups[: len(batch.groups) // 2] for batch in batches]
    assert torch.equal(learnt.sort().values, torch.cat(wanted).sort().values)
    alone = torch.cat([canvases.sum((1, 2, 3)) for canvases, _ in PlainBatches(split.validation, batch=32)])
    torch.testing.assert_close(validated.sort().values, alone.repeat(2).sort().values)
    start = build_network(recipe).state_dict()
    for name, tensor in ranks[0].items():
        assert torch.equal(tensor, ranks[1][name]), name
    assert any(not torch.equal(tensor, start[name]) for name, tensor in ranks[0].items())


def test_shares_of_each_batch_are_the_batch(tiny_recipe, split):
    whole = TrainingBatches(split.train, tiny_recipe)
    parts = [TrainingBatches(split.train, tiny_recipe) for _ in range(3)]
    for rank, part in enumerate(parts):
        part.share = (rank, 3)
    for of_one, *of_three in zip(whole, *parts, strict=True):
        half = [batch.groups[: len(batch.groups) // 2] for batch in (of_one, *of_three)]
        assert torch.equal(half[0], torch.cat(half[1:]))
    views = [next(iter(part)).canvases for part in parts[:2]]
    assert views[0].shape != views[1].shape or not torch.equal(views[0], views[1])
    assert len({len(batches) for batches in (whole, *parts)}) == 1


def test_shares_of_the_validation_part_are_all_of_it_once(split):
    parts = split.validation
    every = sum(map(len, parts))
    for size in (2, 3, every):
        shares = [PlainBatches(parts, batch=2) for _ in range(size)]
        for rank, share in enumerate(shares):
            share.share = (rank, size)
        found = [list(share) for share in shares]
        assert {len(batches) for batches in found} == {len(shares[0])}  # or the processes wait for each other for ever
        canvases = torch.cat([canvases for batches in found for canvases, _ in batches])
        whole = torch.cat([canvases for canvases, _ in PlainBatches(parts, batch=4)])
        assert sorted(map(float, canvases.sum((1, 2, 3)))) == sorted(map(float, whole.sum((1, 2, 3))))


def test_more_processes_than_scans_are_refused(tiny_recipe, split):
    for batches in (TrainingBatches(split.train, tiny_recipe), PlainBatches(split.validation, batch=2)):
        batches.share = (99, 100)
        with pytest.raises(InvalidValueError, match="fewer devices"):
            next(iter(batches))


def test_machines_that_are_not_there_are_refused(tiny_recipe, tmp_path, monkeypatch):
    for wrong in ({"accelerator": "tpu"}, {"precision": "64"}, {"devices": 0}, {"nodes": -1}):
        with pytest.raises(InvalidValueError, match=r"must be"):
            Machine(**wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.accelerator_of(Machine(accelerator="auto")) == "cpu"
    for machine, why in (
        (Machine(accelerator="gpu"), "no GPU"),
        (Machine(precision="16"), "32 or bf16"),
        (Machine(nodes=2), "torchrun"),
    ):
        with pytest.raises(InvalidValueError, match=why):
            train(tiny_recipe, data_root=None, run_dir=tmp_path / "run", machine=machine)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert distributed.accelerator_of(Machine(accelerator="auto")) == "gpu"
    assert distributed.accelerator_of(Machine(accelerator="cpu")) == "cpu"


def test_a_launcher_and_a_user_who_disagree_are_told(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InvalidValueError, match="started 4"):
        distributed.join_processes(Machine(devices=3))
    assert distributed.launched()
    assert not distributed.is_first()


class ElsewhereOnly(nn.Module):
    """Refuses what was not moved to where it lives; a stand-in for a device that this machine does not have."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.place = nn.Parameter(torch.zeros(1, device="meta"))

    def parameters(self, recurse=True):
        yield self.place


def test_networks_are_read_where_they_live(tiny_recipe, split):
    module = ElsewhereOnly(build_network(tiny_recipe))
    moved = []

    def forward(canvases):
        moved.append(canvases.device.type)
        return module.network(torch.zeros(canvases.shape))

    module.forward = forward
    read_parts(module, split.validation)
    assert set(moved) == {"meta"}


def test_nothing_of_the_module_stays_behind_when_it_moves(tiny_recipe):
    module = TrainingModule(build_network(tiny_recipe), tiny_recipe, steps=10).to("meta")
    kept = {name: value for name, value in vars(module).items() if isinstance(value, torch.Tensor)}
    assert not kept  # tensors that are neither parameter nor buffer would
    assert module.known.device.type == "meta"
    assert "known" not in module.state_dict()  # older checkpoints still load


@pytest.mark.slow
def test_lower_precision_is_of_the_layers_alone(tiny_recipe, cache, tmp_path):
    recipe = msgspec.structs.replace(tiny_recipe, optimiser=msgspec.structs.replace(tiny_recipe.optimiser, epochs=1))
    module = TrainingModule(build_network(recipe), recipe, steps=10)
    canvases = torch.rand(4, 1, 64, 64)
    exact = module._run(module.network, canvases)
    module.lower = torch.bfloat16
    rough = module._run(module.network, canvases)
    assert {tensor.dtype for tensor in rough if tensor is not None} == {torch.float32}
    assert not torch.equal(rough.logits, exact.logits)
    torch.testing.assert_close(rough.logits, exact.logits, rtol=0.1, atol=0.1)
    train(recipe, data_root=None, run_dir=tmp_path, cache=cache, machine=Machine(precision="bf16"))
    trained = load_file(tmp_path / "network.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in trained.values())
    assert np.isfinite(json.loads((tmp_path / "metrics.json").read_text())["epochs"][0]["loss"])
