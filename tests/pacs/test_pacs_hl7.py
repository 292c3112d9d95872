"""Results of pathology in HL7 messages: separators, escapes, corrections, and what is not used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from studies import make_study, message

from sonoseek.core import DatasetError
from sonoseek.pacs.pathology import Result, load_terms, read_results


def read_hl7(tmp_path: Path, data: bytes) -> list[Result]:
    path = tmp_path / "oru.hl7"
    path.write_bytes(data)
    return read_results([path], load_terms())


def of_messages(change: Callable[[str], str] = str, **options: object) -> list[str]:
    study = make_study(1)
    study.messages.clear()
    message(study, **{"diagnosis": "DCIS", "side": "L", **options})  # type: ignore[arg-type]
    return [change(text) for text in study.messages]


def test_messages_with_framing_bytes_batches_and_any_line_ends(tmp_path: Path) -> None:
    (text,) = of_messages()
    plain = text.encode()
    forms = [
        plain,
        b"\x0b" + plain + b"\x1c\r",
        plain.replace(b"\r", b"\n"),
        plain.replace(b"\r", b"\r\n"),
        b"FHS|^~\\&\rBHS|^~\\&\r" + plain + b"BTS|1\rFTS|1\r",
        b"\xef\xbb\xbf" + plain,
    ]
    for form in forms:
        (found,) = read_hl7(tmp_path, form)
        assert (found.pathology, found.side, found.day) == ("malignant", "left", make_study(1).day + timedelta(days=7))
        assert found.patient_ids == ("4200001", "99-1")
        assert "ACC00001" in found.accessions
    two = read_hl7(tmp_path, b"\x0b" + plain + b"\x1c\r\x0b" + plain.replace(b"P1-0", b"P1-1") + b"\x1c\r")
    assert len(two) == 2


def test_only_the_diagnosis_is_read_and_only_when_it_is_final(tmp_path: Path) -> None:
    """The macroscopic description of these messages has the word "malignant"."""
    (text,) = of_messages(diagnosis="Fibroadenoma")
    assert read_hl7(tmp_path, text.encode())[0].pathology == "benign"
    (without,) = of_messages(lambda text: text.replace("22637-3^Final", "1234-5^Other"))
    assert read_hl7(tmp_path, without.encode())[0].problem == "it states no diagnosis"
    (preliminary,) = of_messages(status="P")
    assert "not final" in read_hl7(tmp_path, preliminary.encode())[0].problem
    (withdrawn,) = of_messages(lambda text: text.replace("DCIS||||||F", "DCIS||||||W"))
    assert read_hl7(tmp_path, withdrawn.encode())[0].pathology is None


def test_a_later_message_on_the_same_order_replaces_the_earlier_one(tmp_path: Path) -> None:
    def at(hour: str) -> Callable[[str], str]:
        return lambda text: text.replace("160000|||", f"{hour}0000|||")

    (early,) = of_messages(at("16"), diagnosis="Fibroadenoma", order="X1")
    (late,) = of_messages(at("17"), order="X1", status="C")
    for order in ([early, late], [late, early]):
        (found,) = read_hl7(tmp_path, "".join(order).encode())
        assert found.pathology == "malignant"
    (same,) = of_messages(at("16"), order="X1")
    assert {each.pathology for each in read_hl7(tmp_path, (early + same).encode())} == {"benign", "malignant"}


def test_a_correction_counts_in_whatever_file_it_stands(tmp_path: Path) -> None:
    (early,) = of_messages(lambda text: text.replace("160000|||", "150000|||"), diagnosis="Fibroadenoma", order="X1")
    (late,) = of_messages(order="X1", status="C")
    files = [tmp_path / "late.hl7", tmp_path / "early.hl7"]
    for path, text in zip(files, (late, early), strict=True):
        path.write_text(text)
    (found,) = read_results(files, load_terms())
    assert found.pathology == "malignant"


@pytest.mark.parametrize(
    ("first", "second", "later"),
    [
        ("20210301", "20210302", 1),
        ("20210302160000", "20210302150000", 0),
        ("20210302160000+0200", "20210302150000+0000", 1),  # 14:00 and 15:00 in UTC
        ("20210302", "20210302150000", None),
        ("20210302150000", "", None),
        ("20211302", "20210302", None),
        ("20210302150000", "20210302150000", None),
    ],
)
def test_of_two_times_the_later_counts_and_both_where_that_is_not_known(
    tmp_path: Path, first: str, second: str, later: int | None
) -> None:
    texts = []
    for stamp, diagnosis in ((first, "Fibroadenoma"), (second, "DCIS")):
        (text,) = of_messages(diagnosis=diagnosis, order="X1")
        segments = [each.split("|") for each in text.split("\r")]
        for segment in segments:
            if segment[0] == "MSH":
                segment[6] = stamp
            elif segment[0] == "OBR":
                segment[22:23] = [""]
        texts.append("\r".join("|".join(each) for each in segments))
    for order in (texts, texts[::-1]):
        found = {each.pathology for each in read_hl7(tmp_path, "".join(order).encode())}
        assert found == ({"benign", "malignant"} if later is None else {("benign", "malignant")[later]})


def test_any_separators_are_read(tmp_path: Path) -> None:
    (text,) = of_messages()
    for old, new in (("|", "#"), ("^", "%"), ("&", "@")):
        text = text.replace(old, new)
    (found,) = read_hl7(tmp_path, text.encode())
    assert (found.pathology, found.side) == ("malignant", "left")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Fibro\\E\\adenoma", None),
        ("Fibroadenoma\\.br\\", "benign"),
        ("\\H\\Fibroadenoma\\N\\", "benign"),
        ("\\X4643\\", None),
        ("\\X46\\ibroadenoma", "benign"),
        ("Fibroadenoma\\XZZ\\", None),
        ("Fibroadenoma\\C2842\\", None),
        ("Fibroadenoma \\ DCIS", None),
        ("Fibroadenoma~DCIS", None),
    ],
)
def test_escapes_are_read_and_nothing_of_a_text_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, written: str, expected: str | None
) -> None:
    (text,) = of_messages(lambda text: text.replace("||DCIS||", f"||{written}||"))
    (found,) = read_hl7(tmp_path, text.encode())
    assert found.pathology == expected
    assert not caplog.records  # a log names no diagnosis


def test_code_and_text_of_a_diagnosis_must_agree(tmp_path: Path) -> None:
    for value, expected in (("8500/3^DCIS", "malignant"), ("8500/3^x", "malignant"), ("8500/3^Fibroadenoma", None)):
        (text,) = of_messages(
            lambda text, value=value: text.replace("TX|22637-3^Final", "CWE|22637-3^Final").replace(
                "||DCIS||", f"||{value}^ICDO||"
            )
        )
        (found,) = read_hl7(tmp_path, text.encode())
        assert found.pathology == expected


def test_observations_without_an_order_are_listed(tmp_path: Path) -> None:
    (text,) = of_messages()
    lost = "\r".join(line for line in text.split("\r") if not line.startswith("OBR"))
    (found,) = read_hl7(tmp_path, lost.encode())
    assert (found.pathology, found.problem) == (None, "it has observations that no OBR stands before")


def test_parts_of_a_report_each_have_their_side(tmp_path: Path) -> None:
    (text,) = of_messages()
    head = text.split("OBX|")[0]
    parts = [
        "OBX|1|TX|22637-3^Dx^LN|A|DCIS||||||F",
        "OBX|2|CWE|20228-3^Side^LN|A|L^Left||||||F",
        "OBX|3|TX|22637-3^Dx^LN|B|Fibroadenoma||||||F",
        "OBX|4|CWE|20228-3^Side^LN|B|R^Right||||||F",
    ]
    found = read_hl7(tmp_path, (head + "\r".join(parts) + "\r").encode())
    assert {(each.side, each.pathology) for each in found} == {("left", "malignant"), ("right", "benign")}


def test_other_messages_and_broken_ones_are_listed_not_used(tmp_path: Path) -> None:
    (text,) = of_messages()
    other = text.replace("ORU^R01", "ADT^A01")
    found = read_hl7(tmp_path, (other + "MSH|^~\\&\r").encode())
    assert [each.pathology for each in found] == [None, None]
    assert "ADT^A01" in found[0].problem
    with pytest.raises(DatasetError, match="MSH"):
        read_hl7(tmp_path, b"nothing")
