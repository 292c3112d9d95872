"""Results of pathology: how they are read, mapped and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from studies import SIDES, Study, make_studies, write_results

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


@pytest.mark.parametrize("name", ["MSH_ID", "MSH ID", "MSH", "MSH1"])
def test_a_column_called_like_a_segment_is_a_column(tmp_path: Path, name: str) -> None:
    (row,) = read_csv(tmp_path, f"{name},accession,diagnosis\n1,A1,DCIS\n")
    assert row.pathology == "malignant"


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


def test_an_accession_number_of_several_patients_joins_nothing_without_a_patient() -> None:
    two = [entry(), entry(2, study_uid="1.2.4", patient_id="9")]
    joined = join_results(two, [result(patient_ids=())])
    assert not joined.pictures
    assert {listed.status for listed in joined.listed} == {"ambiguous"}
    assert "several patients" in joined.listed[0].reason


@pytest.mark.parametrize("number", ["0", "UNKNOWN", "N/A"])
def test_a_placeholder_is_no_accession_number(number: str) -> None:
    assert joined_class([entry(accession=number)], [result(accessions=(number,), patient_ids=())]) == "no result"
    assert joined_class([entry(accession=number)], [result(accessions=(number,))]) == "benign"  # by patient and date
