"""The search cache beside an SQLite gallery: rebuilt when it must be, followed when it need not be, never believed."""

import dataclasses
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from sonoseek.gallery import Exclusion, GalleryEntry, create_gallery, open_gallery
from sonoseek.gallery.sqlite.index_files import load_index, save_index
from sonoseek.gallery.sqlite.ivf import InvertedFile

DIMENSION = 24


@pytest.fixture(params=["exact", "ivf"])
def index(request) -> str:
    return request.param


@pytest.fixture
def filled(tmp_path, make_entries, index) -> Path:
    """A closed gallery of thirty entries, with a cache; the path of its file."""
    with create_gallery(tmp_path / "archive", bundle_id="b", dimension=DIMENSION, index=index) as gallery:
        gallery.add(make_entries(30))
        gallery.search(np.ones(DIMENSION, np.float32))
    return tmp_path / "archive" / "gallery.db"


@pytest.fixture
def answers(index) -> Callable[..., list[tuple[str, float]]]:
    def ask(file: Path, mode: str = "r") -> list[tuple[str, float]]:
        with open_gallery(file, mode, index=index) as gallery:  # type: ignore[arg-type]
            result = gallery.search(np.ones(DIMENSION, np.float32), k=99)
            assert result.novelty is not None
            return [(match.scan_id, match.similarity) for match in result.matches]

    return ask


def cache_of(file: Path) -> Path:
    return file.with_name(file.name + ".vectors")


def body_of(file: Path) -> Path:
    """The file that holds the vectors."""
    return next(file.parent.glob(f"{file.name}.*.ivf"), cache_of(file))


def damage(file: Path, at: int, junk: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        opened.write(junk)


# Damage


@pytest.mark.parametrize("part", [cache_of, body_of])
@pytest.mark.parametrize("at", [0, 8, 60, 120, 300, 500, -900, -1])
def test_a_damaged_cache_is_made_again(filled, answers, part, at):
    file, right = part(filled), answers(filled)
    whole = file.read_bytes()
    position = at % len(whole)
    damage(file, position, bytes([whole[position] ^ 0xFF]))
    assert answers(filled) == right
    assert file.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"x", bytes(5_000)], ids=["empty", "short", "zeros"])
@pytest.mark.parametrize("part", [cache_of, body_of])
def test_a_lost_cache_is_made_again(filled, answers, part, content):
    file, right = part(filled), answers(filled)
    whole, truth = file.read_bytes(), filled.read_bytes()
    for spoil in (lambda: file.write_bytes(content), file.unlink, lambda: os.truncate(file, len(whole) - 4)):
        spoil()
        assert answers(filled) == right
        assert file.read_bytes() == whole
    assert filled.read_bytes() == truth


def test_the_cache_of_another_gallery_or_state_is_not_used(filled, answers, tmp_path, make_entries):
    with create_gallery(tmp_path / "other", bundle_id="b", dimension=DIMENSION) as other:
        other.add(make_entries(3))
        other.search(np.ones(DIMENSION, np.float32))
    stale = cache_of(filled).read_bytes()
    right = answers(filled)
    shutil.copy(cache_of(tmp_path / "other" / "gallery.db"), cache_of(filled))
    assert answers(filled) == right
    with open_gallery(filled, "w") as gallery:
        gallery.remove(scan_ids=[right[0][0]])
    cache_of(filled).write_bytes(stale)
    assert answers(filled) == right[1:]


def test_a_restored_copy_does_not_trust_the_cache_of_the_history_it_left(filled, answers, tmp_path, make_entry):
    copy = tmp_path / "copy.db"
    shutil.copy(filled, copy)
    with open_gallery(filled, "w") as gallery:
        gallery.add([make_entry(77)])
    assert len(answers(filled)) == 31
    shutil.copy(copy, filled)
    with open_gallery(filled, "w") as gallery:
        gallery.remove(cases=[("phantom", "case 0003")])
    assert len(answers(filled)) == 29


def test_the_cache_is_used_when_it_is_right(filled, answers, monkeypatch):
    right = answers(filled)
    monkeypatch.setattr(
        "sonoseek.gallery.sqlite.index_cache.build_index", lambda *_, **__: pytest.fail("it was made again")
    )
    assert answers(filled) == right


def test_a_cache_that_disagrees_is_found_by_verify_and_mended_by_optimise(filled, index, answers):
    with open_gallery(filled, "w", index=index) as gallery:
        base = load_index(filled, gallery_id=gallery.gallery_id, dimension=DIMENSION)
        assert base is not None
        if base.unit is not None:
            save_index(filled, dataclasses.replace(base, unit=base.unit[::-1].copy()))
            assert any("cache disagrees" in problem for problem in gallery.verify())
        other = dataclasses.replace(base, row_ids=np.append(base.row_ids[:-1], 999))
        if other.inverted is not None:  # the mapped one would be written in faiss's form for mapped lists
            (body,) = filled.parent.glob("*.ivf")
            other = dataclasses.replace(
                other, inverted=InvertedFile(faiss.read_index(str(body)), nprobe=other.inverted.nprobe)
            )
        save_index(filled, other)
        assert any("cache lacks scans" in problem for problem in gallery.verify())
        draft = filled.with_name(f".{filled.name}.vectors.0123")
        draft.write_bytes(b"left by a killed process")
        gallery.optimise()
        assert gallery.verify() == ()
        assert not draft.exists()
    kept = {"exact": set(), "ivf": {".ivf"}}[index]
    assert {item.suffix for item in filled.parent.iterdir()} == {".db", ".vectors", *kept}


def test_a_cache_that_cannot_be_written_is_done_without(filled, answers, caplog):
    right = answers(filled)
    cache_of(filled).unlink()
    cache_of(filled).mkdir()
    with caplog.at_level(logging.INFO, logger="sonoseek"):
        assert answers(filled) == right
    assert "not written" in caplog.text
    assert [item.name for item in filled.parent.iterdir() if item.name.startswith(".")] == []


def test_both_kinds_of_cache_answer_alike_and_say_which_they_are(filled, index):
    found = {}
    for kind in ("exact", "ivf", index):
        with open_gallery(filled, index=kind) as gallery:
            found[kind] = gallery.search(np.ones(DIMENSION, np.float32), k=30, where="label = 'benign'")
            assert gallery.info().index.startswith(kind)
    assert found["exact"] == found["ivf"]


# Following


@pytest.fixture(scope="module")
def thousand(tmp_path_factory, make_entries) -> Path:
    """A folder with a gallery of 1,200 entries, without a cache."""
    place = tmp_path_factory.mktemp("thousand") / "archive"
    with create_gallery(place, bundle_id="b", dimension=DIMENSION) as gallery:
        gallery.add(make_entries(1_200))
    return place


@pytest.fixture
def writer(thousand, tmp_path, index):
    shutil.copytree(thousand, tmp_path / "copy")
    with open_gallery(tmp_path / "copy", "w", index=index) as gallery:
        gallery.refresh()
        yield gallery


def test_small_changes_do_not_make_the_cache_again(writer, make_entry, index, brute_force, monkeypatch):
    cache = cache_of(Path(writer.location))
    before = cache.read_bytes()
    monkeypatch.setattr(
        "sonoseek.gallery.sqlite.index_cache.build_index", lambda *_, **__: pytest.fail("it was made again")
    )
    with open_gallery(writer.location, index=index) as reader:
        for step in range(6):
            new = [make_entry(number) for number in range(2_000 + 5 * step, 2_005 + 5 * step)]
            changed = dataclasses.replace(make_entry(7 * step), embedding=-make_entry(7 * step).embedding)
            writer.add([*new, changed])
            writer.remove(cases=[("phantom", f"case {100 + step:04d}"), ("phantom", f"case {2_000 + 5 * step:04d}")])
            if step:
                writer.add([make_entry(100 + step - 1)])  # what was removed comes back
            entries = list(writer)
            for view in (reader, writer):
                for query in (changed.embedding, new[1].embedding, make_entry(100 + step).embedding):
                    expected = brute_force(entries, query, 12)
                    matches = view.search(query, k=12).matches
                    assert [(m.case_id, m.scan_id) for m in matches] == [item[:2] for item in expected]
                    assert [m.similarity for m in matches] == pytest.approx([item[2] for item in expected], abs=1e-6)
        assert "changes since" in reader.info().index
        assert reader.verify() == ()
    assert cache.read_bytes() == before


def test_a_filter_follows_a_corrected_case(writer, make_entry, index):
    where = "label = 'malignant' and birads = '5'"
    entry = make_entry(14)  # malignant, BI-RADS 5
    with open_gallery(writer.location, index=index) as reader:

        def found() -> list[bool]:
            return [
                any(m.case_id == "case 0014" for m in view.search(entry.embedding, k=500, where=where).matches)
                for view in (reader, writer)
            ]

        assert found() == [True, True]
        corrected = dataclasses.replace(entry.record, pathology="benign")
        writer.add([dataclasses.replace(entry, record=corrected)])
        assert found() == [False, False]
        writer.add([entry])
        assert found() == [True, True]


def test_exclusions_reach_what_was_added_since(writer, make_entry):
    entry = make_entry(3_000, patient_id="new", group=None)
    writer.add([entry])
    assert writer.search(entry.embedding, k=1).matches[0].scan_id == entry.scan_id
    for exclude in (Exclusion(scan_ids=(entry.scan_id,)), Exclusion(patients=(("phantom", "new"),))):
        result = writer.search(entry.embedding, k=5, exclude=exclude)
        assert entry.scan_id not in {match.scan_id for match in result.matches}
        assert result.nearest is not None
        assert result.nearest > 0.01


def test_many_changes_make_the_cache_again(writer, make_entries, index):
    before = cache_of(Path(writer.location)).read_bytes()
    writer.add(make_entries(1_400))
    assert len(writer.search(np.ones(DIMENSION, np.float32), k=1_500).matches) == 1_400
    assert cache_of(Path(writer.location)).read_bytes() != before
    assert "since" not in writer.info().index


def test_a_reader_that_fell_behind_what_is_remembered_starts_anew(writer, make_entry, index, monkeypatch):
    monkeypatch.setattr("sonoseek.gallery.sqlite.versions._REMEMBERED", 3)
    with open_gallery(writer.location, index=index) as reader:
        reader.refresh()
        for number in range(2_000, 2_006):
            writer.add([make_entry(number)])
        writer.remove(cases=[("phantom", "case 0001")])
        found = reader.search(make_entry(1).embedding, k=2_000)
        assert len(found.matches) == 1_205


# Large ones


@pytest.fixture(scope="module")
def clustered(tmp_path_factory, make_entry):
    """20,000 scans in 40 clusters, and what is known of them: labels go by cluster, devices by chance."""
    rng = np.random.default_rng(0)
    rows = 20_000
    cluster = rng.integers(0, 40, rows)
    vectors = (rng.normal(size=(40, DIMENSION))[cluster] + 0.4 * rng.normal(size=(rows, DIMENSION))).astype(np.float32)
    vectors.flags.writeable = False
    rare = rng.random(rows) < 0.01
    model = make_entry(0)
    entries = [
        GalleryEntry(
            record=dataclasses.replace(
                model.record,
                case_id=f"{number:05d}",
                group=None,
                patient_id=f"p{number // 2}",
                pathology=("normal", "benign", "malignant")[cluster[number] % 3],
                device="rare" if rare[number] else "usual",
            ),
            scan_id=f"{number:064x}",
            embedding=vectors[number],
            scan_shape=(24, 32),
        )
        for number in range(rows)
    ]
    place = tmp_path_factory.mktemp("clustered") / "archive"
    with create_gallery(place, bundle_id="b", dimension=DIMENSION, index="ivf") as gallery:
        gallery.add(entries)
        gallery.refresh()
    queries = vectors[rng.choice(rows, 60)] + 0.1 * rng.normal(size=(60, DIMENSION))
    return place, queries.astype(np.float32)


@pytest.mark.parametrize("kept", [True, False], ids=["few kept at hand", "all by lists"])
@pytest.mark.parametrize(
    "where",
    [None, "device = 'rare'", "device = 'usual'", "label = 'malignant'", "label = 'normal' and device = 'rare'"],
)
def test_an_inverted_file_finds_what_a_product_finds_under_any_filter(clustered, where, kept, monkeypatch):
    place, queries = clustered
    if not kept:
        monkeypatch.setattr("sonoseek.gallery.sqlite.search.NARROW", 0)
    with open_gallery(place, index="ivf") as gallery:
        found = [gallery.search(query, where=where, novelty=False).matches for query in queries]
        together = gallery.search_many(queries, where=where, novelty=False)
        assert "recall@10" in gallery.info().index
    assert [result.matches for result in together] == found
    shutil.copytree(place, place.parent / f"exact{hash((where, kept))}")
    with open_gallery(place.parent / f"exact{hash((where, kept))}", index="exact") as gallery:
        right = gallery.search_many(queries, where=where, novelty=False)
    hits = [
        len({m.scan_id for m in one} & {m.scan_id for m in two.matches}) for one, two in zip(found, right, strict=True)
    ]
    assert np.mean(hits) >= 9.9
    for matches in found:
        assert len(matches) == 10
        for match in matches:
            assert where is None or {
                "device = 'rare'": match.device == "rare",
                "device = 'usual'": match.device == "usual",
                "label = 'malignant'": match.label == "malignant",
            }.get(where, match.label == "normal" and match.device == "rare")


def test_an_inverted_file_is_never_short(clustered):
    place, queries = clustered
    with open_gallery(place, index="ivf") as gallery:
        assert len(gallery.search(queries[0], k=20_000, pictures=False).matches) == 20_000
        assert len(gallery.search(queries[0], k=150, where="device = 'rare'", pictures=False).matches) == 150
        few = gallery.search(queries[0], k=50, where="case in ('00001', '00002', '19999')").matches
        assert {match.case_id for match in few} == {"00001", "00002", "19999"}
        nearest = gallery.search(queries[0], k=3_000, pictures=False).matches
        out = Exclusion(scan_ids=tuple(match.scan_id for match in nearest))
        left = gallery.search(queries[0], k=20, exclude=out).matches
        assert len(left) == 20
        assert left[0].similarity <= nearest[-1].similarity


def test_the_vectors_of_an_inverted_file_are_mapped_not_read(clustered):
    place, queries = clustered
    (body,) = place.glob("*.ivf")
    with open_gallery(place) as gallery:
        gallery.info()
    with open_gallery(place, index="ivf") as gallery:
        gallery.search(queries[0])
        maps = Path("/proc/self/maps")
        if maps.exists():
            assert str(body) in maps.read_text()
