"""Words that matches share, beside how usual they are."""

from typing import Any

from sonoseek.core import Match
from sonoseek.explain import shared_descriptors

ARCHIVE = {"margin": {"": 100, "spiculated": 12, "circumscribed": 60}, "shape": {"": 50, "oval": 25, "irregular": 25}}


def match(rank: int, *words: tuple[str, str], **changes: Any) -> Match:
    told = {"case_id": f"c{rank}", "scan_id": f"s{rank}", "similarity": 0.9 - rank / 100, "label": "benign"}
    told["dataset"] = "d"
    return Match(rank=rank, descriptors=words, **(told | changes))


SPIKY, OVAL = ("margin", "spiculated"), ("shape", "oval")


def test_how_many_of_how_many_and_how_usual() -> None:
    matches = [match(1, SPIKY, OVAL), match(2, SPIKY), match(3, ("margin", "circumscribed")), match(4)]
    (word,) = shared_descriptors(matches, lambda: ARCHIVE)
    assert (word.feature, word.descriptor) == SPIKY
    assert (word.matches, word.described, word.share) == (2, 3, 0.12)  # the fourth is not described


def test_the_most_telling_comes_first() -> None:
    matches = [match(1, SPIKY, OVAL), match(2, SPIKY, OVAL)]
    assert [each.descriptor for each in shared_descriptors(matches, lambda: ARCHIVE)] == ["spiculated", "oval"]


def test_near_copies_are_one_precedent() -> None:
    matches = [match(1, SPIKY, group="g"), match(2, SPIKY, group="g"), match(3, OVAL)]
    assert shared_descriptors(matches, lambda: ARCHIVE) == ()


def test_groups_are_names_within_a_dataset() -> None:
    matches = [match(1, SPIKY, group="g"), match(2, SPIKY, group="g", dataset="other")]
    (word,) = shared_descriptors(matches, lambda: ARCHIVE)
    assert word.matches == 2


def test_where_nobody_describes_the_gallery_is_not_asked() -> None:
    def refuse() -> dict[str, dict[str, int]]:
        raise AssertionError

    assert shared_descriptors([match(1), match(2)], refuse) == ()
    assert shared_descriptors([], refuse) == ()


def test_a_feature_that_the_gallery_does_not_know_is_left_out() -> None:
    assert shared_descriptors([match(1, SPIKY), match(2, SPIKY)], dict) == ()
