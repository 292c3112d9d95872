"""Tables as spreadsheets and scripts save them: read, or refused with row and column."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import fake_datasets
import pytest

from sonoseek.core import DatasetError
from sonoseek.datasets import open_dataset

TABLE = "file,pathology,birads,histology\na.png,benign,3,cyst\nb.png,malignant,5,\nc.png,normal,1,\n"


def records(folder: Path, data: bytes | str):
    (folder / "archive.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    return open_dataset("manifest", folder).records()


def wanted(folder: Path):
    return records(folder, TABLE)


@pytest.mark.parametrize(
    "data",
    [
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\r"),
        "\ufeff" + TABLE,
        TABLE.encode("utf-16"),
        TABLE.replace(",", "\t").encode("utf-16"),
        b"\xfe\xff" + TABLE.encode("utf-16-be"),
        TABLE.encode("utf-32"),
        "sep=;\n" + TABLE.replace(",", ";"),
        "SEP=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n"),
        "\ufeffsep=,\n" + TABLE,
        "sep=|\n" + TABLE.replace(",", "|"),
        "".join(f"{line},,\n" for line in TABLE.splitlines()),
        "".join(f"{line},\n" for line in TABLE.splitlines()).replace("histology,", "histology", 1) + ",,,,\n",
        "".join(f"{number},{line}\n" for number, line in zip(("", 0, 1, 2), TABLE.splitlines(), strict=True)),
        "".join(f"{number},{line}\n" for number, line in zip(("", 1, 2, 3), TABLE.splitlines(), strict=True)),
        "file;birads;;pathology;histology\na.png;3;;benign;cyst\nb.png;5;;malignant;\nc.png;1;;normal;\n",
    ],
    ids=range(16),
)
def test_one_table_in_many_clothes(tmp_path: Path, data: bytes | str) -> None:
    assert records(tmp_path, data) == wanted(tmp_path)


@pytest.mark.parametrize("sign", ["\n", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", " \n "])
def test_a_line_break_in_a_cell_keeps_words_apart_and_ends_no_row(tmp_path: Path, sign: str) -> None:
    quoted = TABLE.replace("cyst", f'"invasive{sign}ductal"')
    assert records(tmp_path, quoted)[0].histology.split() == ["invasive", "ductal"]
    assert len(records(tmp_path, quoted)) == 3
    if sign not in ("\n", "\r\n", " \n "):
        assert records(tmp_path, TABLE.replace("cyst", f"invasive{sign}ductal")) == records(tmp_path, quoted)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("acquired", text) for text in ("202112", "2021315", "2021-13-01", "20210230", "21-01-02", "0021-01-02")),
        *(("acquired", text) for text in ("2021-01-02 rubbish", "2021_01_02", "٢٠٢١-٠١-٠٢", "44561", "2021", "1.2.21")),
        *(("age", text) for text in ("1_0", "１０", "4 5", "0x1f", "1e", "131", "-1", "inf", "45 years")),
        *(("spacing_mm", text) for text in ("0_07", "٠.٠٧", "1x2x3", "0")),
        *(("frame", text) for text in ("1_0", "1.5", "-1")),
        *(("birads", text) for text in ("4_a", "7", "٣")),
    ],
)
def test_what_is_no_value_is_refused_with_row_and_column(tmp_path: Path, column: str, value: str) -> None:
    data = f"file;pathology;{column}\na.png;benign;\nb.png;malignant;{value}\n"
    with pytest.raises(DatasetError, match=f"row 3 of archive.csv: {column} is {value!r}"):
        records(tmp_path, data)


@pytest.mark.parametrize(
    ("value", "day"),
    [
        *((text, "2021-01-02") for text in ("2021-01-02", "2021-1-2", "02.01.2021", "2.1.2021", "20210102")),
        *((text, "2021-01-02") for text in ("2021/01/02", "2021-01-02T10:30:00Z", "20210102 103000", "2.1.2021 9:05")),
        ("2021-01-02 10:30:00.5+01:00", "2021-01-02"),
    ],
)
def test_whole_days_are_read(tmp_path: Path, value: str, day: str) -> None:
    found = records(tmp_path, f"file;pathology;acquired\na.png;benign;{value}\n")
    assert str(found[0].acquired) == day


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("file,,pathology\na.png,,benign\nb.png,why,benign\n", "column 2 of .* has no name, but row 3"),
        (",file,pathology\n7,a.png,benign\n9,b.png,benign\n", "column 1 of .* has no name, but row 2"),
        ("Unnamed: 0,file,pathology\n0,a.png,benign\n", "unknown columns: 'Unnamed: 0'"),
        (TABLE.encode("utf-16-le"), "null bytes.*CSV UTF-8"),
        (TABLE.encode("utf-16")[:-1], "no sound utf-16.*CSV UTF-8"),
    ],
)
def test_what_cannot_be_told_is_named(tmp_path: Path, data: bytes | str, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        records(tmp_path, data)


@pytest.mark.parametrize(("disk", "table"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC"), ("NFD", "NFD")])
def test_names_whose_accents_are_written_otherwise_find_each_other(tmp_path: Path, disk: str, table: str) -> None:
    name = "Müller é.png"
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "scans" / unicodedata.normalize(disk, name))
    listed = unicodedata.normalize(table, name)
    (tmp_path / "archive.csv").write_text(
        f"file,pathology,mask\nscans/{listed},benign,scans/{listed}\n", encoding="utf-8"
    )
    dataset = open_dataset("manifest", tmp_path)
    (record,) = dataset.records()
    assert dataset.load(record.case_id).lesion_masks[0] is not None


def test_a_name_with_a_line_break_is_found(tmp_path: Path) -> None:
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "a\nb.png")
    (tmp_path / "archive.csv").write_text('file,pathology\n"a\nb.png",benign\n', encoding="utf-8")
    dataset = open_dataset("manifest", tmp_path)
    assert dataset.load("a b.png").scans[0].pixels.any()
