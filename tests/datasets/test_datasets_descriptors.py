"""What readers write, in the lexicon's words."""

import logging

import openpyxl
import pytest

from sonoseek.core import DESCRIPTORS
from sonoseek.datasets import open_dataset
from sonoseek.datasets.descriptors import WORDS, _warn, parse_descriptors
from sonoseek.datasets.phantom import PhantomDataset


def test_every_feature_has_its_words():
    assert tuple(WORDS) == DESCRIPTORS


@pytest.mark.parametrize(
    ("feature", "text", "words"),
    [
        ("shape", "Irregular", ["irregular"]),
        ("margin", "circumscribed", ["circumscribed"]),
        ("halo", "no", ["no halo"]),
        ("margin", "not circumscribed", ["not circumscribed"]),
        ("margin", "not circumscribed - indistinct", ["indistinct"]),
        ("margin", "not circumscribed - angular&microlobulated", ["angular", "microlobulated"]),
        ("margin", "spiculated; angular", ["spiculated", "angular"]),
        ("echogenicity", "complex cystic/solid", ["complex cystic and solid"]),
        ("posterior", "no", ["no posterior features"]),
        ("posterior", "shadowing", ["shadowing"]),
        ("posterior", "combined", ["combined pattern"]),
        ("halo", "yes", ["halo"]),
        ("calcifications", "no", ["no calcifications"]),
        ("calcifications", "in a mass", ["in a mass"]),
        ("orientation", "taller than wide", ["not parallel"]),
        ("orientation", "taller-than-wide", ["not parallel"]),
        ("orientation", "Non-parallel", ["not parallel"]),
        ("margin", "not circumscribed – spiculated", ["spiculated"]),
        ("shape", "", []),
        ("shape", "not applicable", []),
        ("margin", "n/a", []),
    ],
)
def test_what_archives_write(feature, text, words):
    assert parse_descriptors({feature: text}) == tuple((feature, word) for word in words)


def test_an_unknown_word_is_kept_and_said_once(caplog):
    _warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert parse_descriptors({"margin": "Wobbly"}) == (("margin", "wobbly"),)
        parse_descriptors({"margin": "wobbly"})
    assert caplog.text.count("wobbly") == 1


def test_breast_brings_them(make_fake):
    root = make_fake("breast")
    path = next(root.glob("*.xlsx"))
    book = openpyxl.load_workbook(path)
    sheet = book.worksheets[0]
    last = sheet.max_column
    for number, (column, cells) in enumerate(
        {
            "Shape": ("oval", "irregular", "not applicable"),
            "Margin": ("circumscribed", "not circumscribed - spiculated&indistinct", "not applicable"),
            "Posterior_features": ("enhancement", "shadowing", "not applicable"),
        }.items(),
        start=1,
    ):
        for row, cell in enumerate((column, *cells), start=1):
            sheet.cell(row, last + number, cell)
    book.save(path)
    first, second, normal = open_dataset("breast", root).records()
    assert dict(first.descriptors) == {"shape": "oval", "margin": "circumscribed", "posterior": "enhancement"}
    assert [word for feature, word in second.descriptors if feature == "margin"] == ["spiculated", "indistinct"]
    assert normal.descriptors == ()


def test_breast_reads_without_them_too(fake_roots):
    assert all(record.descriptors == () for record in open_dataset("breast", fake_roots["breast"]).records())


def test_a_manifest_brings_them(make_fake):
    root = make_fake("manifest")
    table = next(root.rglob("*.csv")) if root.is_dir() else root
    lines = table.read_text(encoding="utf-8").splitlines()
    separator = ";" if ";" in lines[0] else "\t" if "\t" in lines[0] else ","
    told = [lines[0] + f"{separator}margin", lines[1] + f"{separator}spiculated & angular"]
    table.write_text("\n".join([*told, *(line + separator for line in lines[2:])]) + "\n", encoding="utf-8")
    first, *rest = open_dataset("manifest", root).records()
    assert first.descriptors == (("margin", "spiculated"), ("margin", "angular"))
    assert all(record.descriptors == () for record in rest)


def test_phantoms_say_what_is_drawn():
    records = PhantomDataset(count=200, seed=3).records()
    assert all(record.descriptors == () for record in records if record.pathology == "normal")
    words = {word for record in records for _, word in record.descriptors}
    assert {"circumscribed", "spiculated", "shadowing", "anechoic"} <= words
    for record in records:
        for feature, word in record.descriptors:
            assert word in WORDS[feature]


def test_phantoms_words_are_true_of_each_lesion_that_is_drawn():
    from sonoseek.datasets.phantom.lesions import HABITS
    from sonoseek.datasets.phantom.plan import _DESCRIBED
    from sonoseek.datasets.phantom.tissue import FAT_DB, FAT_LOSS, GLAND_DB, GLAND_LOSS

    def spiky(habit):
        return habit.spikes // 3 >= 1

    true_where = {
        ("shape", "oval"): lambda h: h.aspect[1] * 1.08 < 0.9 and h.waves[0] < 0.1,
        ("shape", "irregular"): lambda h: h.waves[0] > 0.1,
        ("orientation", "parallel"): lambda h: h.upright == 0,
        ("margin", "circumscribed"): lambda h: h.edge_mm[1] <= 0.5 and not h.ragged_mm and not spiky(h),
        ("margin", "indistinct"): lambda h: h.edge_mm[0] > 0.5 and not spiky(h),
        ("margin", "spiculated"): spiky,
        ("echogenicity", "hypoechoic"): lambda h: GLAND_DB - h.echo_db[0] < FAT_DB,
        ("echogenicity", "anechoic"): lambda h: GLAND_DB - h.echo_db[0] < FAT_DB - 40,
        ("posterior", "enhancement"): lambda h: h.loss[1] < FAT_LOSS / 2,
        ("posterior", "shadowing"): lambda h: h.loss[0] > GLAND_LOSS,
    }
    for kind, told in _DESCRIBED.items():
        for pair in told.items():
            assert true_where[pair](HABITS[kind]), (kind, pair)
