"""A run that is killed goes on as if nothing had happened, from the middle of an epoch too."""

import csv
import json
import os
import random
import signal
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch

from sonoseek.training import Upkeep, train
from sonoseek.training.batches import TrainingBatches
from sonoseek.training.checkpoints import WholeFiles, ended
from sonoseek.training.prepare import open_choice, prepare
from sonoseek.training.recipe import recipe_to_dict
from sonoseek.training.seeding import random_state, seeded, set_random_state
from sonoseek.training.splits import split_sets
from sonoseek.training.trainer import CHECKPOINT

KILL_AT = 18
"""Step at whose end a child is killed: within the second epoch of 13 steps."""
CHILD = """
import os, sys
from pathlib import Path
import msgspec, torch
from sonoseek.training import Upkeep, train
from sonoseek.training.recipe import Recipe

kill_at, run, cache = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])

def progress(done, total):
    if done == kill_at:
        os.kill(os.getpid(), 9)

torch.set_num_threads(1)
recipe = msgspec.json.decode(sys.stdin.read(), type=Recipe)
train(recipe, data_root=None, run_dir=run, cache=cache, resume=True, on_progress=progress,
      upkeep=Upkeep(checkpoint_steps=2, log_steps=1))
"""


def changed(recipe, **optimiser):
    return msgspec.structs.replace(recipe, optimiser=msgspec.structs.replace(recipe.optimiser, **optimiser))


@pytest.fixture(scope="module")
def recipe(tiny_recipe):
    return changed(tiny_recipe, epochs=3, batch=2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("prepared")


def start_child(recipe, run, cache, *, kill_at=-1):
    child = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD, str(kill_at), str(run), str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    child.stdin.write(json.dumps(recipe_to_dict(recipe)))
    child.stdin.close()
    child.stdin = None
    return child


def without_times(run):
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["seconds"]
    for epoch in metrics["epochs"]:
        del epoch["seconds_since_start"]
    return metrics


@pytest.fixture(scope="module")
def runs(tmp_path_factory, recipe, cache):
    """An unbroken run, and one killed by SIGKILL in mid-epoch and taken up, with what was there in between."""
    folder = tmp_path_factory.mktemp("runs")
    unbroken = start_child(recipe, folder / "unbroken", cache)
    killed = start_child(recipe, folder / "killed", cache, kill_at=KILL_AT)
    _, said = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, said
    assert not (folder / "killed" / "metrics.json").exists()
    between = torch.load(folder / "killed" / CHECKPOINT, weights_only=True)
    taken_up = start_child(recipe, folder / "killed", cache)
    for child in (unbroken, taken_up):
        _, said = child.communicate()
        assert child.returncode == 0, said
    return folder / "unbroken", folder / "killed", between, said


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_ends_with_the_same_bytes(runs):
    unbroken, run, between, said = runs
    assert between["global_step"] == 17  # 13 of the first epoch, then every other one
    assert (run / "network.safetensors").read_bytes() == (unbroken / "network.safetensors").read_bytes()
    assert without_times(run) == without_times(unbroken)
    assert "resum" not in said.lower()


@pytest.mark.slow
def test_the_table_goes_on_without_a_step_twice(runs):
    tables = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in runs[:2]]
    assert tables[0] == tables[1]
    steps = [int(row["step"]) for row in tables[1] if row["kind"] == "step"]
    assert steps == list(range(1, 40))
    assert [row["epoch"] for row in tables[1] if row["kind"] == "epoch"] == ["0", "1", "2"]


@pytest.mark.slow
def test_each_call_is_noted_with_versions_seed_and_threads(runs):
    first, second = json.loads((runs[1] / "environment.json").read_text())
    assert first["began"] <= second["began"]
    assert second["packages"]["torch"] == torch.__version__
    assert (second["seed"], second["threads"], second["accelerator"]) == (0, 1, "cpu")
    assert second["command"]


@pytest.mark.slow
def test_a_run_killed_after_an_early_stop_trains_no_epoch_more(recipe, cache, tmp_path, monkeypatch):
    from sonoseek.training import module

    recipe = changed(recipe, epochs=8, lr=0.3, patience=1)  # far too fast: no epoch is better for long

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "close_unlearnt", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, data_root=None, run_dir=tmp_path, cache=cache)
    before = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert ended(tmp_path / CHECKPOINT)
    epochs = before["global_step"] // 13
    assert epochs < 8
    steps = []
    train(recipe, data_root=None, run_dir=tmp_path, cache=cache, resume=True, on_progress=lambda *s: steps.append(s))
    assert steps == []
    assert len(json.loads((tmp_path / "metrics.json").read_text())["epochs"]) == epochs


def test_a_kill_while_a_checkpoint_is_written_leaves_the_older_one(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "last.ckpt"
    WholeFiles().save_checkpoint({"step": 1}, path)

    def half(content, stream):
        stream.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        WholeFiles().save_checkpoint({"step": 2}, path)
    assert WholeFiles().load_checkpoint(path, weights_only=True) == {"step": 1}
    assert not ended(path)
    assert not ended(tmp_path / "absent.ckpt")


def test_the_clock_keeps_too(recipe, cache, tmp_path):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        train(
            recipe,
            data_root=None,
            run_dir=tmp_path,
            cache=cache,
            on_progress=stop,
            upkeep=Upkeep(checkpoint_minutes=1e-9),
        )
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["global_step"] == 4


def test_batches_that_are_done_are_skipped_not_made(recipe, cache, monkeypatch):
    (choice,) = recipe.datasets
    source = prepare(open_choice(choice, data_root=None), recipe=recipe.preprocessing_recipe, cache=cache)
    batches = TrainingBatches(split_sets(recipe, [source], fold=None).train, recipe)
    batches.epoch = 1
    whole = list(batches)
    made = []
    make = TrainingBatches._make
    monkeypatch.setattr(TrainingBatches, "_make", lambda self, *args: made.append(1) or make(self, *args))
    batches.start = 9
    rest = list(batches)
    assert len(made) == len(rest) == len(whole) - 9
    for one, other in zip(rest, whole[9:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert len(batches) == len(whole)  # the epoch is as long as before


def draws():
    return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002 - what others draw from


def test_random_state_is_stored_and_restored():
    before = random_state()
    outside = torch.rand(3)
    set_random_state(before)
    with seeded((7,)):
        first = draws()
        state = random_state()
        wanted = draws()
        set_random_state(state)
        assert draws() == wanted
    with seeded((7,)):
        assert first == draws()
    assert torch.equal(torch.rand(3), outside)
