"""What the tests of every gallery engine share."""

import dataclasses

import numpy as np
import pytest

from sonoseek.gallery import GalleryEntry

DIMENSION, BUNDLE_ID = 24, "tiny-0123456789ab"
KINDS = ["sqlite", "sqlite ivf", pytest.param("milvus", marks=[pytest.mark.peer, pytest.mark.long])]
"""Each engine, and each kind of search that an engine has."""


def same(one: GalleryEntry, other: GalleryEntry) -> bool:
    """Equal in everything; embeddings as closely as half precision allows."""
    plain = {field.name for field in dataclasses.fields(GalleryEntry)} - {"embedding"}
    largest = np.abs(one.embedding).max()
    return all(getattr(one, name) == getattr(other, name) for name in plain) and np.allclose(
        one.embedding, other.embedding, rtol=2**-11, atol=largest * 6e-8
    )


def case_ids(result) -> list[str]:
    return [match.case_id for match in result.matches]
