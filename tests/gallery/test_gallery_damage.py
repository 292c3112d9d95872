"""Files of a gallery that vanish, or that hold garbage: said clearly, never guessed over."""

import hashlib
import os
import shutil
import sqlite3
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from workload import BUNDLE_ID, DIMENSION, describe, key_of

from sonoseek.core import GalleryError, NotFoundError
from sonoseek.gallery import Gallery, Mode, SearchResult, create_gallery, open_gallery

QUERY = np.ones(DIMENSION, np.float32)
ROUNDS = 60


@pytest.fixture
def filled(tmp_path, make_entries) -> Path:
    """A closed gallery of thirty entries, with a cache; the path of its file."""
    with create_gallery(tmp_path / "archive", bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        gallery.add(make_entries(30))
        gallery.search(QUERY)
    return tmp_path / "archive" / "gallery.db"


def damage(file: Path, at: int, junk: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(junk)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_that_was_deleted_or_replaced_is_noticed(filled, tmp_path):
    copy = tmp_path / "copy.db"
    shutil.copy(filled, copy)
    with open_gallery(filled, "w") as gallery:
        filled.unlink()
        for act in (gallery.count, lambda: gallery.remove(scan_ids=["x"])):
            with pytest.raises(GalleryError, match="deleted or replaced"):
                act()
        shutil.copy(copy, filled)
        with pytest.raises(GalleryError, match="deleted or replaced"):
            gallery.count()
    with open_gallery(filled) as gallery:
        assert gallery.count() == 30


@pytest.mark.parametrize("pages", [0, 0.1, 1, 3, 10, -1])
def test_a_truncated_gallery_is_refused_with_a_remedy(filled, pages):
    os.truncate(filled, int(pages * 4096) % filled.stat().st_size)
    with pytest.raises(GalleryError, match=r"copy|anew|build"), open_gallery(filled) as gallery:
        list(gallery)


def test_verify_finds_half_a_page_missing(filled):
    os.truncate(filled, filled.stat().st_size - 50)
    with open_gallery(filled) as gallery:
        assert any("cut short" in problem for problem in gallery.verify())


def test_verify_finds_a_torn_page(filled):
    with sqlite3.connect(filled) as raw:
        (page,) = raw.execute("SELECT pageno FROM dbstat WHERE name = 'scans' LIMIT 1").fetchone()
    raw.close()
    damage(filled, (page - 1) * 4096, b"\xa5" * 4096)
    with open_gallery(filled) as gallery:
        assert any("page" in problem or "malformed" in problem for problem in gallery.verify())


@pytest.mark.parametrize("mode", ["r", "w"])
def test_garbage_in_place_of_the_file_while_it_is_open(filled, mode, make_entry):
    """The same file, other bytes: what a process holds in memory may answer still, what it reads anew is refused."""
    with open_gallery(filled) as gallery:
        content = content_of(gallery)
    with open_gallery(filled, mode) as gallery:
        damage(filled, 0, np.random.default_rng(0).bytes(filled.stat().st_size))
        answers = answers_of(gallery, make_entry, write=mode == "w")
        assert foreign(answers) == []
        assert isinstance(answers[1], GalleryError) or answers[1] == content
    with pytest.raises(GalleryError, match="anew"):
        open_gallery(filled, mode)


def content_of(gallery: Gallery) -> dict[tuple[str, str], bytes]:
    return {key_of(entry): describe(entry) for entry in gallery}


def answers_of(gallery: Gallery, make_entry: Callable[..., Any], *, write: bool) -> list[Any]:
    """What each operation says: its answer, or its error."""
    scan_id = make_entry(3).scan_id
    acts: list[Callable[[], Any]] = [
        gallery.count,
        lambda: content_of(gallery),
        lambda: gallery.get(scan_id),
        lambda: gallery.entries(cases=[("phantom", "case 0007")]),
        lambda: gallery.search(QUERY, k=99),
        lambda: gallery.search(QUERY, k=5, where="birads = '4A' and age >= 20"),
        lambda: gallery.search(QUERY, k=5, exclude=gallery.exclusion_for(scan_id, patient_id="p2"), per_patient=True),
        lambda: gallery.novelty(QUERY),
        gallery.descriptor_counts,
        lambda: gallery.fingerprints("phantom"),
        gallery.info,
    ]
    if write:
        acts += [
            lambda: gallery.add([make_entry(3), make_entry(99)]),
            lambda: gallery.add([make_entry(5, birads="6")], whole_cases=True),
            lambda: gallery.remove(scan_ids=[scan_id], cases=[("phantom", "case 0009")]),
            gallery.optimise,
            lambda: gallery.search(QUERY, k=99),
        ]
    answers: list[Any] = []
    for act in acts:
        try:
            answers.append(act())
        except Exception as error:  # the caller says which are ours
            answers.append(error)
    return answers


def foreign(answers: list[Any]) -> list[str]:
    """Errors that say nothing to a user: kind, place and words."""
    return [
        f"{type(answer).__name__} in {traceback.extract_tb(answer.__traceback__)[-1].name}: {answer}"
        for answer in answers
        if isinstance(answer, Exception) and not isinstance(answer, (GalleryError, NotFoundError))
    ]


def spoil(file: Path, rng: np.random.Generator) -> None:
    """One to three runs of garbage: single bits, a few bytes, a sector, a page."""
    size = file.stat().st_size
    for _ in range(int(rng.integers(1, 4))):
        length = int(rng.choice([1, 4, 40, 512, 4_096]))
        at = int(rng.integers(0, size - min(length, size - 1)))
        junk = rng.bytes(length)
        if length == 1:
            junk = bytes([file.read_bytes()[at] ^ (1 << int(rng.integers(8)))])
        damage(file, at, junk[: size - at])


def spoiled(filled: Path, folder: Path, *, mode: Mode, cached: bool) -> Iterator[tuple[int, Gallery | None]]:
    """Copies with garbage in them, opened; None where that was refused."""
    for number in range(ROUNDS):
        copy = folder / f"{mode} {cached} {number}"
        shutil.copytree(filled.parent, copy, ignore=None if cached else shutil.ignore_patterns("*.vectors*"))
        spoil(copy / "gallery.db", np.random.default_rng([number, mode == "w", cached]))
        try:
            gallery = open_gallery(copy, mode)
        except (GalleryError, NotFoundError):
            yield number, None
        else:
            with gallery:
                yield number, gallery


@pytest.mark.parametrize("mode", ["r", "w"])
@pytest.mark.parametrize("cached", [False, True], ids=["bare", "cached"])
def test_garbage_in_the_file_is_found_or_harmless(filled, tmp_path, make_entry, mode, cached):
    """Where `verify` finds nothing, nothing has changed, and every similarity is the right one."""
    with open_gallery(filled) as gallery:
        content = content_of(gallery)
        similarities = similarities_of(gallery.search(QUERY, k=99))
    refused = listed = unharmed = 0
    for number, opened in spoiled(filled, tmp_path, mode=mode, cached=cached):
        if opened is None:
            refused += 1
        elif opened.verify():
            listed += 1
        else:
            unharmed += 1
            assert content_of(opened) == content, f"round {number}: changed, and verify says nothing"
            assert similarities_of(opened.search(QUERY, k=99)) == similarities, f"round {number}"
    print(f"{ROUNDS} files: {refused} refused, {listed} listed by verify, {unharmed} not harmed")
    assert refused + listed + unharmed == ROUNDS
    assert min(listed - ROUNDS // 3, unharmed, refused) > 0


def test_garbage_in_the_file_makes_no_strange_error(filled, tmp_path, make_entry):
    """Whatever was hit: an answer, or an error of ours."""
    strange = Counter(
        error
        for mode in ("r", "w")
        for cached in (False, True)
        for _, opened in spoiled(filled, tmp_path, mode=mode, cached=cached)
        if opened is not None
        for error in foreign(answers_of(opened, make_entry, write=mode == "w"))
    )
    assert strange == {}


def test_verify_lists_a_short_embedding_beside_a_cache(filled):
    with sqlite3.connect(filled) as raw:
        raw.execute("UPDATE scans SET embedding = x'0011' WHERE row_id = 1")
    raw.close()
    with open_gallery(filled) as gallery:
        assert any("2 bytes, expected 48" in problem for problem in gallery.verify())


@pytest.mark.parametrize("mode", ["r", "w"])
def test_a_gallery_that_lost_its_states_says_so(filled, make_entry, mode):
    with sqlite3.connect(filled) as raw:
        raw.execute("DELETE FROM states")
    raw.close()
    with open_gallery(filled, mode) as gallery:
        assert gallery.verify() != ()
        assert foreign(answers_of(gallery, make_entry, write=mode == "w")) == []


def similarities_of(result: SearchResult) -> dict[tuple[str, str], float]:
    return {(match.case_id, match.scan_id): match.similarity for match in result.matches}


@pytest.mark.parametrize("mode", ["r", "w"])
def test_garbage_in_the_log_is_never_half_a_change(filled, tmp_path, make_entries, mode):
    """A log carries checksums: what follows the damage never happened, what stands before it did."""
    with open_gallery(filled, "w") as gallery:
        for first in range(30, 60, 3):
            gallery.add(make_entries(first + 3)[first:])
        whole = tmp_path / "whole"
        shutil.copytree(filled.parent, whole, ignore=shutil.ignore_patterns("*-shm"))
    log = whole / "gallery.db-wal"
    assert log.stat().st_size > 50_000
    counts = set()
    for number in range(ROUNDS // 2):
        folder = tmp_path / f"round {number}"
        shutil.copytree(whole, folder)
        spoil(folder / log.name, np.random.default_rng([number, mode == "w"]))
        with open_gallery(folder, mode) as gallery:
            assert gallery.verify() == ()
            assert len(gallery.search(QUERY, k=99).matches) == gallery.count()
            counts.add(gallery.count())
    assert counts <= set(range(30, 61, 3))
    assert len(counts) > 3


# The search cache


def test_garbage_in_the_cache_is_noticed_and_the_truth_untouched(filled, tmp_path):
    with open_gallery(filled) as gallery:
        wanted = gallery.search(QUERY, k=99)
    names = sorted(path.name for path in filled.parent.glob("gallery.db.vectors*"))
    assert names
    truth = digest(filled)
    for number in range(ROUNDS):
        folder = tmp_path / f"round {number}"
        shutil.copytree(filled.parent, folder)
        spoil(folder / names[number % len(names)], np.random.default_rng(number))
        with open_gallery(folder, "w" if number % 2 else "r") as gallery:
            assert gallery.search(QUERY, k=99) == wanted
            assert gallery.verify() == ()
        assert digest(folder / "gallery.db") == truth


def test_every_byte_of_the_cache_counts(filled):
    """One flipped bit anywhere is noticed: answers stay the same."""
    with open_gallery(filled) as gallery:
        wanted = gallery.search(QUERY, k=99)
    cache = filled.with_name("gallery.db.vectors")
    whole = cache.read_bytes()
    for at in range(0, len(whole), 41):
        cache.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with open_gallery(filled) as gallery:
            assert gallery.search(QUERY, k=99) == wanted, f"byte {at}"
