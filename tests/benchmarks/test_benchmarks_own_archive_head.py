"""The regression on an archive's own embeddings finds what is there, and nothing where groups alone tell."""

import numpy as np

from benchmarks.own_archive_head import own_areas


def test_what_embeddings_hold_is_found_in_other_groups() -> None:
    rng = np.random.default_rng(0)
    malignant = np.arange(200) % 2 == 1
    embeddings = rng.normal(size=(200, 8)).astype(np.float32)
    embeddings[:, 0] += 4 * malignant
    assert min(own_areas(embeddings, malignant, np.arange(200))) > 0.95


def test_a_label_that_only_the_group_betrays_is_not() -> None:
    """Each group has one label and a place of its own: with groups split apart, its place would give the label away."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 5)
    malignant = rng.permutation(np.arange(40) % 2 == 1)[groups]
    embeddings = (rng.normal(size=(40, 64))[groups] + 0.01 * rng.normal(size=(200, 64))).astype(np.float32)
    assert 0.25 < np.mean(own_areas(embeddings, malignant, groups)) < 0.75
