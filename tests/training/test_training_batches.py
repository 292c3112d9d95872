"""Preparing, parting and drawing."""

import logging
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from sonoseek.core import DatasetError, InvalidValueError
from sonoseek.encoder import PADDING
from sonoseek.encoder.seen import hash_bytes
from sonoseek.preprocessing import PreprocessingRecipe
from sonoseek.training.batches import PlainBatches, TrainingBatches, draw, expected_draws, group_targets
from sonoseek.training.prepare import prepare
from sonoseek.training.splits import split_sets

RECIPE = PreprocessingRecipe(canvas_size=64, borders=False, marks=False)


@pytest.fixture
def prepared(memory_dataset, tmp_path):
    return prepare(memory_dataset, recipe=RECIPE, cache=tmp_path)


def test_what_was_cleaned_once_is_kept(memory_dataset, tmp_path, prepared):
    preprocessed = memory_dataset.loads
    again = prepare(memory_dataset, recipe=RECIPE, cache=tmp_path)
    assert memory_dataset.loads - preprocessed < preprocessed / 2  # a few to see that nothing has changed
    np.testing.assert_array_equal(again.canvases, prepared.canvases)
    assert again.content_hash == prepared.content_hash
    for number, case_id in enumerate(again.case_ids):
        scan = memory_dataset.load(str(case_id)).scans[0]
        assert again.scan_ids[number] == prepared.scan_ids[number] == scan.scan_id
        assert again.hashes[number] == prepared.hashes[number] == hash_bytes(scan).hex()
    other = prepare(
        memory_dataset, recipe=PreprocessingRecipe(canvas_size=64, borders=False, contrast="none"), cache=tmp_path
    )
    assert other.content_hash != prepared.content_hash


def test_another_cleaning_behind_the_same_recipe_is_noticed(memory_dataset, tmp_path, prepared, monkeypatch, caplog):
    def brighter(scan, recipe):
        preprocessed = preprocess(scan, recipe)
        object.__setattr__(preprocessed, "canvas", np.maximum(preprocessed.canvas, 9))
        return preprocessed

    from sonoseek.training import prepare as module

    preprocess = module.preprocess
    monkeypatch.setattr(module, "preprocess", brighter)
    with caplog.at_level(logging.WARNING):
        again = prepare(memory_dataset, recipe=RECIPE, cache=tmp_path)
    assert "preprocessing has changed" in caplog.text
    assert again.canvases.min() == 9


def test_a_damaged_cache_is_made_anew(memory_dataset, tmp_path, prepared):
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:1000])
    again = prepare(memory_dataset, recipe=RECIPE, cache=tmp_path)
    assert again.content_hash == prepared.content_hash


def test_a_broken_case_is_left_out_and_named(make_dataset, tmp_path):
    told = []
    made = prepare(
        make_dataset(broken=["case 4"]), recipe=RECIPE, cache=tmp_path, on_progress=lambda *a: told.append(a)
    )
    assert len(made.labels) == 29
    assert list(made.refused) == ["case 4"]
    assert told[-1] == (30, 30)
    with pytest.raises(DatasetError, match="none of 3"):
        prepare(make_dataset(3, broken=["case 0", "case 1", "case 2"]), recipe=RECIPE, cache=tmp_path)


def test_sides_never_share_a_group_and_cover_all(tiny_recipe, prepared):
    tested = []
    for fold in range(3):
        split = split_sets(tiny_recipe, [prepared], fold=fold)
        sides = [split.train[0], split.validation[0], split.test[0]]
        rows = np.concatenate([part.rows for part in sides])
        assert sorted(rows) == list(range(30))
        groups = [set(part.groups[part.rows].tolist()) for part in sides]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]
        tested.extend(sides[2].rows)
    assert sorted(tested) == list(range(30))
    whole = split_sets(tiny_recipe, [prepared], fold=None)
    assert len(whole.test[0]) == 0
    assert len(whole.train[0]) + len(whole.validation[0]) == 30
    with pytest.raises(InvalidValueError, match="fold is 3"):
        split_sets(tiny_recipe, [prepared], fold=3)


def test_batches_are_two_views_of_each_scan(tiny_recipe, prepared):
    split = split_sets(tiny_recipe, [prepared], fold=0)
    batches = TrainingBatches(split.train, tiny_recipe)
    made = list(batches)
    assert len(made) == len(batches)
    for batch in made:
        canvases, labels, groups = batch.canvases, batch.labels, batch.groups
        half = len(labels) // 2
        assert canvases.shape == (2 * half, 1, 64, 64)
        assert canvases.dtype == torch.float32
        assert torch.equal(labels[:half], labels[half:])
        assert torch.equal(groups[:half], groups[half:])
        assert not torch.equal(canvases[:half], canvases[half:])
        assert batch.known.all()
        assert batch.lesions.shape == canvases.shape
        assert torch.equal(batch.targets.argmax(1), labels)


def test_views_for_two_readings_have_half_the_side_of_the_canvas(tiny_recipe, prepared):
    split = split_sets(tiny_recipe, [prepared], fold=0)
    recipe = msgspec.structs.replace(tiny_recipe, network="lesion_pooling", close_up=True)
    for batch in TrainingBatches(split.train, recipe):
        assert batch.canvases.shape[1:] == batch.lesions.shape[1:] == (1, 32, 32)
        assert float(batch.canvases.min()) >= -1
        assert float(batch.canvases.max()) <= 1


def test_epochs_differ_and_repeat(tiny_recipe, prepared):
    split = split_sets(tiny_recipe, [prepared], fold=0)
    first, second = TrainingBatches(split.train, tiny_recipe), TrainingBatches(split.train, tiny_recipe)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
    second.epoch = 1
    assert not any(a[0].shape == b[0].shape and torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


def test_only_the_training_side_is_drawn_from(tiny_recipe, prepared):
    split = split_sets(tiny_recipe, [prepared], fold=0)
    batches = TrainingBatches(split.train, tiny_recipe)
    seen = set()
    for epoch in range(5):
        batches.epoch = epoch
        for batch in batches:
            seen |= set(batch.groups.tolist())
    part = split.train[0]
    assert seen == set(part.groups[part.rows].tolist())


def test_draws_are_as_many_as_expected():
    expected = np.array([0.2, 1.0, 2.5, 0.3])
    counts = np.zeros(4)
    for seed in range(400):
        drawn = np.bincount(draw(expected, rng=np.random.default_rng(seed)), minlength=4)
        assert np.all(np.abs(drawn - expected) <= 1)
        counts += drawn
    np.testing.assert_allclose(counts / 400, expected, atol=0.1)


def test_balance_lifts_the_rare(tiny_recipe, prepared):
    part = split_sets(tiny_recipe, [prepared], fold=None).train[0]
    object.__setattr__(part, "rows", part.rows[(part.labels > 0) | (np.arange(len(part)) % 3 == 0)])
    for balance, spread in ((0.0, 1.0), (1.0, 0.0)):
        expected = expected_draws([part], balance=balance)
        per_class = np.array([expected[part.labels == c].sum() for c in range(3)])
        assert expected.sum() == pytest.approx(len(part))
        assert (np.ptp(per_class) > 0.5) == bool(spread)


def test_archive_balance_levels_archives_within_the_same_number_of_draws(tiny_recipe, prepared):
    part = split_sets(tiny_recipe, [prepared], fold=None).train[0]
    small = split_sets(tiny_recipe, [prepared], fold=None).train[0]
    object.__setattr__(small, "rows", small.rows[: len(part) // 4])
    totals = {}
    for level in (0.0, 0.5, 1.0):
        expected = expected_draws([part, small], balance=0.5, archive_balance=level)
        assert expected.sum() == pytest.approx(len(part) + len(small))
        totals[level] = expected[: len(part)].sum() / expected[len(part) :].sum()
    ratio = len(part) / len(small)
    assert [totals[level] for level in (0.0, 0.5, 1.0)] == pytest.approx([ratio, ratio**0.5, 1.0])


def test_plain_batches_are_the_canvases_in_order(tiny_recipe, prepared):
    split = split_sets(tiny_recipe, [prepared], fold=0)
    batches = PlainBatches([split.test[0]], batch=4)
    canvases, labels = (torch.cat(items) for items in zip(*batches, strict=True))
    assert len(batches) == -(-len(split.test[0]) // 4)
    assert labels.tolist() == split.test[0].labels.tolist()
    row = split.test[0].rows[0]
    top, left, bottom, right = prepared.contents[row]
    inside = canvases[0, 0, top:bottom, left:right].numpy()
    np.testing.assert_allclose(inside, prepared.canvases[row][top:bottom, left:right] / 255, atol=1e-6)
    assert torch.all(canvases[0, 0, :top] == PADDING)


def test_one_view_is_half_a_batch(tiny_recipe, prepared):
    optimiser = msgspec.structs.replace(tiny_recipe.optimiser, views=1)
    loss = msgspec.structs.replace(tiny_recipe.loss, instance=0.0)
    recipe = msgspec.structs.replace(tiny_recipe, optimiser=optimiser, loss=loss)
    split = split_sets(recipe, [prepared], fold=0)
    assert sum(len(batch.labels) for batch in TrainingBatches(split.train, recipe)) == len(split.train[0])


def test_a_group_with_two_labels_says_both_or_nothing(tiny_recipe, prepared):
    part = split_sets(tiny_recipe, [prepared], fold=None).train[0]
    groups = part.groups.copy()
    pair = part.rows[[int(np.flatnonzero(part.labels == 1)[0]), int(np.flatnonzero(part.labels == 2)[0])]]
    groups[pair] = groups.max() + 1
    part = replace(part, groups=groups)
    in_conflict = np.isin(part.rows, pair)
    shares = group_targets(part)
    np.testing.assert_allclose(shares[in_conflict], [[0, 0.5, 0.5]] * 2)
    np.testing.assert_allclose(shares[~in_conflict].max(1), 1)

    def targets(conflicts):
        loss = msgspec.structs.replace(tiny_recipe.loss, conflicts=conflicts)
        batches = TrainingBatches([part], msgspec.structs.replace(tiny_recipe, loss=loss))
        found = {}
        for epoch in range(4):
            batches.epoch = epoch
            for batch in batches:
                found |= dict(zip(batch.groups.tolist(), batch.targets.tolist(), strict=True))
        return found

    number = int(groups.max())
    assert sorted(targets("keep")[number]) == [0, 0, 1]
    np.testing.assert_allclose(targets("soften")[number], [0, 0.5, 0.5])
    assert number not in targets("drop")
