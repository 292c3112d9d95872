"""Results of pathology: how they are read, mapped and joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from studies import SIDES, Study, make_studies, make_study, message, write_results

from sonoseek.core import DatasetError, InvalidValueError
from sonoseek.pacs.archive import Imported
from sonoseek.pacs.pathology import Joined, JoinRules, Result, join_results, load_terms, read_results

DAY = date(2021, 3, 1)


def entry(number: int = 1, *, side: str = "left", study: Study | None = None, **changed: object) -> Imported:
    values: dict[str, object] = {
        "file": f"files/{number}.dcm",
        "sop_instance_uid": f"1.2.{number}",
        "study_uid": "1.2.3",
        "series_uid": "1.2.3.1",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.6.1",
        "patient_id": "4711",
        "accession": "A1",
        "study_date": DAY,
        "side": side,
        "frames": 1,
        "device": "",
    }
    if study is not None:
        values |= {
            "study_uid": study.uid,
            "patient_id": study.patient_id,
            "accession": study.accession,
            "study_date": study.day,
        }
    return Imported(**{**values, **changed})  # type: ignore[arg-type]


def entries_of(studies: Sequence[Study]) -> list[Imported]:
    return [
        entry(side=side, study=study, sop_instance_uid=uid)
        for study in studies
        for uid, side in study.picture_uids.items()
    ]


def result(**changed: object) -> Result:
    values = {"origin": "here", "accessions": ("A1",), "patient_ids": ("4711",), "day": DAY, "side": "left"}
    return Result(**{**values, "pathology": "benign", **changed})  # type: ignore[arg-type]


def test_each_of_200_studies_is_joined_right_and_what_is_ambiguous_is_listed(tmp_path: Path) -> None:
    studies = make_studies()
    joined = join_results(entries_of(studies), read_results(write_results(studies, tmp_path), load_terms()))
    check_outcomes(studies, joined)


def check_outcomes(studies: Sequence[Study], joined: Joined) -> None:
    """Every picture of every study has what its study expects, and nothing else is joined."""
    classes = {(picture.entry.study_uid, picture.entry.side): picture.pathology for picture in joined.pictures}
    pictures = sum(len(study.sides) for study in studies)
    of_studies = [listed for listed in joined.listed if listed.status != "no study"]
    assert len(joined.pictures) + sum(listed.pictures for listed in of_studies) == pictures
    for study in studies:
        mine = {
            listed.side: listed.status
            for listed in of_studies
            if (listed.accession, listed.patient_id, listed.study_date)
            == (study.accession, study.patient_id, study.day)
        }
        mine |= {side: name for side in SIDES if (name := classes.pop((study.uid, side), None))}
        assert mine == study.expected, (study.number, study.kind)
    assert not classes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Invasive ductal carcinoma", "malignant"),
        ("  invasive   DUCTAL carcinoma. ", "malignant"),
        ("8500/3", "malignant"),
        ("C50.4", "malignant"),
        ("Fibroadenoma", "benign"),
        ("normal", "normal"),
        ("no evidence of malignancy", None),
        ("No malignant cells", None),
        ("not malignant", None),
        ("suspicious for carcinoma", None),
        ("carcinoma excluded", None),
        ("negative for carcinoma", None),
        ("fibroadenoma, DD phyllodes tumour", None),
        ("B3", None),
        ("", None),
    ],
)
def test_a_text_is_looked_up_whole_and_never_searched(text: str, expected: str | None) -> None:
    assert load_terms().classify([text])[0] == expected


def test_a_hospital_s_table_comes_over_the_default(tmp_path: Path) -> None:
    path = tmp_path / "terms.toml"
    path.write_text('benign = ["Kein Anhalt für Malignität", "B5a"]\n[columns]\naccession = ["Fallnummer"]\n')
    terms = load_terms(path)
    assert terms.classify(["kein anhalt für malignität"]) == ("benign", "")
    assert terms.classify(["b5a"])[0] == "benign"  # the hospital's own word counts
    assert terms.classify(["dcis"])[0] == "malignant"
    assert terms.columns["accession"] == ("fallnummer",)
    path.write_text('defaults = false\nbenign = ["x"]\n')
    assert load_terms(path).classify(["dcis"])[0] is None


@pytest.mark.parametrize(
    "text",
    [
        'benign = ["x"]\nmalignant = ["X."]',
        "bening = []",
        "= 1",
        '[columns]\nage = ["a"]',
        '[hl7]\naccession = ["PID-3"]',
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "terms.toml"
    path.write_text(text)
    with pytest.raises(InvalidValueError, match=r"terms\.toml"):
        load_terms(path)


def test_several_texts_must_agree() -> None:
    terms = load_terms()
    assert terms.classify(["fibroadenoma", "dcis"]) == (None, "it states benign and malignant at once")
    assert terms.classify(["fibroadenoma", "see above"])[1].startswith("unmapped")


def read_csv(tmp_path: Path, text: str, encoding: str = "utf-8") -> list[Result]:
    path = tmp_path / "results.csv"
    path.write_bytes(text.encode(encoding))
    return read_results([path], load_terms())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_any_separator_and_encoding(tmp_path: Path, encoding: str, separator: str) -> None:
    lines = [
        ["Accession", "MRN", "Date", "Diagnosis", "Side", "Ärztin"],
        ["A1", "4711", "2021-03-02", "DCIS", "R", "Öz"],
    ]
    (found,) = read_csv(tmp_path, "\n".join(separator.join(line) for line in lines), encoding)
    assert (found.pathology, found.side, found.day, found.accessions) == (
        "malignant",
        "right",
        date(2021, 3, 2),
        ("A1",),
    )
    assert found.origin == "row 2 of results.csv"


def test_wrong_cells_of_a_table_are_problems_of_their_row_alone(tmp_path: Path) -> None:
    text = (
        "accession,date,diagnosis,histology,laterality\nA1,gestern,benign,,L\nA2,,benign,,upper\nA3,,benign,DCIS,L\n"
        "A4,,,DCIS,L\nA5,,benign,some free text,L\n"
    )
    rows = read_csv(tmp_path, text)
    assert [row.pathology for row in rows] == [None, None, None, "malignant", "benign"]
    assert "gestern" in rows[0].problem
    assert "upper" in rows[1].problem
    assert "benign, its histology malignant" in rows[2].problem
    assert rows[4].histology == "some free text"


@pytest.mark.parametrize("header", ["accession,finding", "diagnosis,age", "accession,mrn,patient,diagnosis"])
def test_a_table_without_what_is_needed_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(DatasetError, match="columns"):
        read_csv(tmp_path, f"{header}\n" + ",".join("x" for _ in header.split(",")))


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


def joined_class(entries: Sequence[Imported], results: Sequence[Result], rules: JoinRules | None = None) -> str:
    joined = join_results(entries, results, rules)
    names = {picture.pathology for picture in joined.pictures} | {
        listed.status for listed in joined.listed if listed.status != "no study"
    }
    assert len(names) == 1, joined
    return names.pop()


@pytest.mark.parametrize(("days", "expected"), [(-1, "no result"), (0, "benign"), (60, "benign"), (61, "no result")])
def test_the_window_of_days_is_closed(days: int, expected: str) -> None:
    far = result(accessions=(), day=DAY + timedelta(days=days))
    assert joined_class([entry()], [far]) == expected
    assert joined_class([entry()], [far], JoinRules(first_day=-30, last_day=90)) == "benign"


def test_without_a_date_or_a_patient_only_the_accession_number_joins() -> None:
    assert joined_class([entry()], [result(accessions=(), day=None)]) == "no result"
    assert joined_class([entry(study_date=None)], [result(accessions=())]) == "no result"
    assert joined_class([entry(patient_id="")], [result(accessions=())]) == "no result"
    assert joined_class([entry(study_date=None)], [result(day=None)]) == "benign"
    assert joined_class([entry(accession="")], [result(accessions=("",), patient_ids=())]) == "no result"


def test_a_result_of_another_study_of_the_patient_stays_that_study_s() -> None:
    """Both scans are within the window of both results; each result names its own scan."""
    second = entry(2, study_uid="1.2.4", accession="A2", study_date=DAY + timedelta(days=20))
    own = result(accessions=("A2",), pathology="malignant", day=DAY + timedelta(days=25))
    joined = join_results([entry(), second], [result(), own])
    assert [picture.pathology for picture in joined.pictures] == ["benign", "malignant"]
    assert joined.listed == ()


def test_a_result_without_its_accession_number_that_contradicts_makes_the_study_ambiguous() -> None:
    contrary = result(accessions=(), pathology="malignant", day=DAY + timedelta(days=50))
    assert joined_class([entry()], [result(), contrary]) == "ambiguous"
    assert joined_class([entry()], [result(), replace(contrary, side="right")]) == "benign"
    assert joined_class([entry()], [result(), replace(contrary, day=DAY + timedelta(days=61))]) == "benign"


def test_sides() -> None:
    assert joined_class([entry()], [result(side="both")]) == "benign"
    assert joined_class([entry()], [result(side="")]) == "benign"  # one breast, named by the accession number
    assert joined_class([entry()], [result(side="", accessions=())]) == "ambiguous"
    assert joined_class([entry(), entry(2, side="right")], [result(side="")]) == "ambiguous"
    assert joined_class([entry(side="both")], [result()]) == "ambiguous"
    assert joined_class([entry(side="")], [result()]) == "ambiguous"
    taken = JoinRules(take_unsided=True)
    assert joined_class([entry(side="")], [result()], taken) == "benign"
    assert joined_class([entry(), entry(2, side="right")], [result(side="")], taken) == "benign"
    assert joined_class([entry(side="")], [result(), result(pathology="malignant")], taken) == "ambiguous"


def test_a_study_whose_files_name_two_patients_is_ambiguous() -> None:
    assert joined_class([entry(), entry(2, patient_id="9")], [result()]) == "ambiguous"


def test_a_result_that_fits_no_study_is_listed() -> None:
    joined = join_results([entry()], [result(), result(accessions=("Z9",), patient_ids=("1",))])
    assert [(listed.status, listed.accession) for listed in joined.listed] == [("no study", "Z9")]
    with pytest.raises(InvalidValueError, match="--days"):
        JoinRules(first_day=5, last_day=1)
