"""The side task on a lesion's form and BI-RADS."""

import math

import cv2
import numpy as np
import pytest
import torch
from msgspec.structs import replace

from sonoseek.core import CaseRecord
from sonoseek.training.batches import TrainingBatches
from sonoseek.training.building import build_network
from sonoseek.training.descriptors import NAMES, descriptor_loss, descriptor_targets, measured_form, suspicion
from sonoseek.training.module import TrainingModule
from sonoseek.training.prepare import prepare
from sonoseek.training.recipe import recipe_digest, recipe_to_dict
from sonoseek.training.splits import split_sets


def ellipse(*, wide, tall, at=(100, 100)):
    view = np.zeros((200, 200), dtype=np.uint8)
    cv2.ellipse(view, at, (wide, tall), 0, 0, 360, 255, -1)
    return view


def test_a_circle_is_round_and_solid_and_as_tall_as_wide():
    roundness, solidity, taller = measured_form(ellipse(wide=40, tall=40))
    assert roundness > 0.88
    assert solidity > 0.98
    assert taller == pytest.approx(0, abs=0.01)


def test_height_over_width_is_positive_for_what_is_taller_than_wide():
    assert measured_form(ellipse(wide=20, tall=60))[2] == pytest.approx(math.log(3), abs=0.05)
    assert measured_form(ellipse(wide=60, tall=20))[2] == pytest.approx(-math.log(3), abs=0.05)


def test_spikes_take_roundness_and_solidity():
    spiked = ellipse(wide=30, tall=30)
    for turn in np.linspace(0, 2 * np.pi, 9)[:-1]:
        end = (int(100 + 70 * np.cos(turn)), int(100 + 70 * np.sin(turn)))
        cv2.line(spiked, (100, 100), end, 255, 4)
    roundness, solidity, _ = measured_form(spiked)
    assert roundness < 0.3
    assert solidity < 0.6


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(np.zeros((200, 200), dtype=np.uint8), id="no lesion"),
        pytest.param(ellipse(wide=3, tall=3), id="too small"),
        pytest.param(ellipse(wide=40, tall=40, at=(100, 10)), id="cut off above"),
        pytest.param(ellipse(wide=40, tall=40, at=(190, 100)), id="cut off at the right"),
    ],
)
def test_a_form_that_the_view_does_not_show_is_not_known(view):
    assert all(math.isnan(value) for value in measured_form(view))


def test_the_largest_lesion_is_measured():
    both = ellipse(wide=60, tall=20)
    both[5:30, 5:15] = 255
    assert measured_form(both) == measured_form(ellipse(wide=60, tall=20))


def test_what_is_not_known_teaches_nothing():
    targets = torch.from_numpy(
        descriptor_targets([ellipse(wide=40, tall=40), np.zeros((200, 200), np.uint8)], [5.0, math.nan])
    )
    estimates = torch.zeros(2, len(NAMES), requires_grad=True)
    descriptor_loss(estimates, targets).backward()
    assert torch.all(estimates.grad[0] != 0)
    assert torch.all(estimates.grad[1] == 0)
    assert descriptor_loss(estimates, torch.full((2, 4), torch.nan)) == 0


def test_birads_comes_from_the_record(make_dataset, tmp_path):
    dataset = make_dataset(count=6)
    dataset._records = tuple(
        CaseRecord(case_id=r.case_id, dataset=r.dataset, pathology=r.pathology, group=r.group, birads=category)
        for r, category in zip(dataset._records, ("2", "4C", "0", None, "5", "3"), strict=True)
    )
    from sonoseek.preprocessing import PreprocessingRecipe

    places = suspicion(prepare(dataset, recipe=PreprocessingRecipe(canvas_size=64), cache=tmp_path))
    np.testing.assert_allclose(places, [2, 4.4, np.nan, np.nan, 5, 3], rtol=1e-6)


def test_the_side_task_learns_from_phantoms_and_is_not_in_the_network(tiny_recipe, tmp_path):
    from sonoseek.training.prepare import open_choice

    recipe = replace(tiny_recipe, loss=replace(tiny_recipe.loss, descriptors=0.5))
    source = prepare(
        open_choice(recipe.datasets[0], data_root=None), recipe=recipe.preprocessing_recipe, cache=tmp_path
    )
    batch = next(iter(TrainingBatches(split_sets(recipe, [source], fold=0).train, recipe)))
    assert batch.descriptors.shape == (len(batch.canvases), len(NAMES))
    module = TrainingModule(build_network(recipe), recipe, steps=4)
    module.log = lambda *_, **__: None
    module.training_step(batch, 0).backward()
    assert module.terms["loss_descriptors"] > 0
    assert torch.any(module.descriptors.weight.grad != 0)
    assert any(
        group["params"][-1] is module.descriptors.bias
        for group in module.configure_optimizers()["optimizer"].param_groups
    )
    assert "descriptors" not in str(list(module.averaged.state_dict()))


def test_a_recipe_without_it_keeps_its_digest(tiny_recipe):
    plain = recipe_to_dict(tiny_recipe)
    assert "descriptors" not in plain["loss"]
    with_it = replace(tiny_recipe, loss=replace(tiny_recipe.loss, descriptors=0.5))
    assert recipe_digest(recipe_to_dict(with_it)) != recipe_digest(plain)
