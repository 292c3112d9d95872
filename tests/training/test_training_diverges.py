"""A run that has gone wrong stops, says why, and leaves its last good checkpoint."""

import json
import math

import msgspec
import pytest
import torch

from sonoseek.core import SonoseekError, TrainingError
from sonoseek.training import DivergenceRule, Upkeep, train
from sonoseek.training.divergence import DivergenceCheck
from sonoseek.training.trainer import CHECKPOINT

RULE = DivergenceRule(factor=10, steps=3, window=10, floor=0.1)


def judged(losses, rule=RULE):
    """The step at which a guard stops, with what it says; None where it does not."""
    guard = DivergenceCheck(rule)
    for step, loss in enumerate(losses, start=1):
        try:
            guard.check(loss, epoch=2, step=step)
        except TrainingError as error:
            return step, str(error)
    return None


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_no_number_stops_at_once_with_epoch_step_losses_rule_and_remedy(wrong):
    step, said = judged([1.5, 1.25, wrong, 1.0])
    assert step == 3
    for needed in (
        "epoch 2, step 3",
        "1.5, 1.25",
        "must be finite",
        "lower lr",
        "metrics.csv",
        "last good checkpoint stays",
    ):
        assert needed in said


def test_a_loss_far_above_its_median_stops_after_the_stated_steps():
    step, said = judged([1.0] * 8 + [11.0] * 5)
    assert step == 11
    assert "10 × its median of the last 10 steps (1) for 3 steps" in said


@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 8 + [9.9] * 5,  # not far enough
        [1.0] * 8 + [11.0, 11.0, 1.0] * 5,  # not for long enough
        [1.0] * 3 + [100.0] * 3 + [1.0] * 9,  # too early to know what is usual
        [1e-6] * 9 + [0.5] * 9,  # a multiple of next to nothing
        [10.0 / step for step in range(1, 200)],
    ],
)
def test_what_happens_in_good_runs_stops_none(losses):
    assert judged(losses) is None


def test_a_guard_that_is_taken_up_judges_as_an_unbroken_one():
    losses = [1.0] * 8 + [11.0] * 2
    first, second = DivergenceCheck(RULE), DivergenceCheck(RULE)
    for loss in losses:
        first.check(loss, epoch=0, step=0)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    with pytest.raises(TrainingError):
        second.check(11.0, epoch=0, step=11)
    assert issubclass(TrainingError, SonoseekError)
    assert issubclass(TrainingError, RuntimeError)


def test_a_run_with_a_huge_rate_stops_and_keeps_its_last_good_checkpoint(tiny_recipe, tmp_path):
    optimiser = msgspec.structs.replace(
        tiny_recipe.optimiser, epochs=40, batch=2, lr=1e18, backbone_lr=1e18, warmup=0.9, clip=1e9
    )
    recipe = msgspec.structs.replace(tiny_recipe, optimiser=optimiser)
    told = []
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+.*lower lr"):
        train(
            recipe,
            data_root=None,
            run_dir=tmp_path,
            on_progress=lambda *s: told.append(s),
            upkeep=Upkeep(checkpoint_steps=1, log_steps=1),
        )
    assert len(told) < 40 * 13
    if told[-1][0] > 2:  # else there was nothing good to keep
        kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)["state_dict"]
        assert all(torch.isfinite(tensor).all() for tensor in kept.values() if tensor.is_floating_point())
    assert (tmp_path / "metrics.csv").is_file()
    assert not (tmp_path / "bundle").exists()


def test_weights_that_are_no_numbers_are_never_kept(tiny_recipe, tmp_path, monkeypatch):
    """The loss of the step before was fine, the gradient was not."""
    from sonoseek.training.module import TrainingModule

    update = TrainingModule.on_train_batch_end

    def spoilt(self, outputs, batch, batch_idx):
        update(self, outputs, batch, batch_idx)
        if self.global_step == 8:
            with torch.no_grad():
                self.network.head.weight[0, 0] = math.nan

    monkeypatch.setattr(TrainingModule, "on_train_batch_end", spoilt)
    recipe = msgspec.structs.replace(
        tiny_recipe, optimiser=msgspec.structs.replace(tiny_recipe.optimiser, epochs=1, batch=2)
    )
    with pytest.raises(TrainingError, match=r"step 8: the weights .*head.weight.* not finite"):
        train(recipe, data_root=None, run_dir=tmp_path, upkeep=Upkeep(checkpoint_steps=1))
    kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert kept["global_step"] == 7
    assert torch.isfinite(kept["state_dict"]["network.head.weight"]).all()
