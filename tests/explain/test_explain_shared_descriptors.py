"""Descriptors that matches share, and their frequency in the archive."""

from typing import Any

from sonoseek.core import Match
from sonoseek.explain import shared_descriptors

ARCHIVE = {"margin": {"": 100, "spiculated": 12, "circumscribed": 60}, "shape": {"": 50, "oval": 25, "irregular": 25}}


def match(rank: int, *descriptors: tuple[str, str], **changes: Any) -> Match:
    values = {"case_id": f"c{rank}", "scan_id": f"s{rank}", "similarity": 0.9 - rank / 100, "label": "benign"}
    values["dataset"] = "d"
    return Match(rank=rank, descriptors=descriptors, **(values | changes))


SPIKY, OVAL = ("margin", "spiculated"), ("shape", "oval")


def test_counts_and_frequency() -> None:
    matches = [match(1, SPIKY, OVAL), match(2, SPIKY), match(3, ("margin", "circumscribed")), match(4)]
    (shared,) = shared_descriptors(matches, lambda: ARCHIVE)
    assert (shared.feature, shared.descriptor) == SPIKY
    assert (shared.matches, shared.described, shared.share) == (2, 3, 0.12)  # the fourth is not described


def test_the_largest_difference_comes_first() -> None:
    matches = [match(1, SPIKY, OVAL), match(2, SPIKY, OVAL)]
    assert [each.descriptor for each in shared_descriptors(matches, lambda: ARCHIVE)] == ["spiculated", "oval"]


def test_near_duplicates_are_one_similar_case() -> None:
    matches = [match(1, SPIKY, group="g"), match(2, SPIKY, group="g"), match(3, OVAL)]
    assert shared_descriptors(matches, lambda: ARCHIVE) == ()


def test_groups_are_names_within_a_dataset() -> None:
    matches = [match(1, SPIKY, group="g"), match(2, SPIKY, group="g", dataset="other")]
    (shared,) = shared_descriptors(matches, lambda: ARCHIVE)
    assert shared.matches == 2


def test_the_gallery_is_read_only_where_a_match_is_described() -> None:
    def refuse() -> dict[str, dict[str, int]]:
        raise AssertionError

    assert shared_descriptors([match(1), match(2)], refuse) == ()
    assert shared_descriptors([], refuse) == ()


def test_a_feature_unknown_to_the_gallery_is_left_out() -> None:
    assert shared_descriptors([match(1, SPIKY), match(2, SPIKY)], dict) == ()
