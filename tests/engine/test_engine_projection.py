"""A gallery laid out in the plane."""

from __future__ import annotations

import numpy as np
import pytest

from sonoseek.core import InvalidValueError
from sonoseek.gallery import Gallery
from sonoseek.indexing.projection import project_gallery


def test_places_are_exact_and_the_same_again(gallery: Gallery) -> None:
    drawn, again = project_gallery(gallery), project_gallery(gallery)
    assert (drawn.places == again.places).all()
    assert drawn.total == len(drawn.entries) == 40
    assert drawn.gallery_state == gallery.state()
    for entry, place in zip(drawn.entries, drawn.places, strict=True):
        assert drawn.place(entry.embedding) == pytest.approx(tuple(place.tolist()), abs=1e-5)
        assert drawn.place(entry.embedding * np.float32(7)) == pytest.approx(tuple(place.tolist()), abs=1e-5)


def test_the_axes_are_those_of_the_largest_variance(gallery: Gallery) -> None:
    drawn = project_gallery(gallery)
    assert drawn.axes @ drawn.axes.T == pytest.approx(np.eye(2), abs=1e-5)
    unit = np.array([entry.embedding / np.linalg.norm(entry.embedding) for entry in drawn.entries])
    spread = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False) ** 2
    assert drawn.explained == pytest.approx(tuple(spread[:2] / spread.sum()), rel=1e-3)
    assert drawn.places.var(axis=0)[0] >= drawn.places.var(axis=0)[1]


def test_a_large_gallery_is_shown_by_a_sample(gallery: Gallery) -> None:
    drawn = project_gallery(gallery, most=15)
    assert (len(drawn.entries), drawn.total) == (15, 40)
    again, other = project_gallery(gallery, most=15), project_gallery(gallery, most=15, seed=1)
    names = [{entry.scan_id for entry in each.entries} for each in (drawn, again, other)]
    assert names[0] == names[1] != names[2]
    assert (drawn.places == again.places).all()
    left = next(entry for entry in gallery if entry.scan_id not in names[0])
    unit = left.embedding / np.linalg.norm(left.embedding)
    assert drawn.place(left.embedding) == pytest.approx(tuple(drawn.axes @ (unit - drawn.centre)), abs=1e-5)


def test_an_empty_gallery_has_an_empty_map(empty_gallery: Gallery) -> None:
    drawn = project_gallery(empty_gallery)
    assert (drawn.places.shape, drawn.total, drawn.explained) == ((0, 2), 0, (0.0, 0.0))


def test_what_has_no_place_is_refused(gallery: Gallery) -> None:
    drawn = project_gallery(gallery)
    for wrong in (np.zeros(gallery.dimension, np.float32), np.ones(3, np.float32)):
        with pytest.raises(InvalidValueError, match="place scans that the gallery's bundle has encoded"):
            drawn.place(wrong)
