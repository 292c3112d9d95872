"""Patient ids that name nobody, and one patient over most of an archive."""

import pytest

from sonoseek.core.patients import MIN_CASES, PatientShare, is_placeholder, largest_patients, patient_warnings


@pytest.mark.parametrize(
    "text",
    [
        *("ANONYMOUS", " anonymous ", "Anonymized", "ANON", "Anonymous^Patient", "DEIDENTIFIED", "de-identified"),
        *("UNKNOWN", "NONE", "N/A", "null", "PATIENT", "no id", "XXXX"),
        *("0", "0000", "00000000", "0-0", "-", "--", "?", "***", "^"),
    ],
)
def test_placeholders_name_nobody(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "p-1", "0012", "10", "A0", "ANON17", "anonymous 2", "x", "XX", "NONEMAN", "Ö", "-" * 65, "anon\x1b"],
)
def test_what_may_be_a_person_is_no_placeholder(text: str) -> None:
    assert not is_placeholder(text)


def test_the_largest_patient_of_each_dataset() -> None:
    cases = [("a", "p"), ("a", "q"), ("a", "q"), ("a", None), ("a", None), ("a", None), ("b", "p"), ("c", None)]
    assert largest_patients(cases) == (
        PatientShare(dataset="a", patient_id="q", cases=2, total=6),
        PatientShare(dataset="b", patient_id="p", cases=1, total=1),
    )
    assert largest_patients([]) == ()


@pytest.mark.parametrize(
    ("cases", "total", "dominant"),
    [
        (600, 600, True),
        (301, 600, True),
        (300, 600, False),
        (299, 600, False),
        (MIN_CASES, MIN_CASES, True),
        (MIN_CASES - 1, MIN_CASES - 1, False),
    ],
)
def test_more_than_half_of_an_archive_is_said(cases: int, total: int, dominant: bool) -> None:
    share = PatientShare(dataset="ours", patient_id="A17", cases=cases, total=total)
    assert share.dominant is dominant
    assert len(patient_warnings([share])) == dominant


def test_the_sentences_say_value_rule_and_remedy() -> None:
    share = PatientShare(dataset="ours", patient_id="A17", cases=301, total=600)
    large, placeholder, one = patient_warnings([share], {"ANONYMOUS": 12, "0": 1})
    assert large.startswith("patient 'A17' holds 301 of the 600 cases of 'ours' (50 %), more than half")
    assert "leaves the others out" in large
    assert "Give real pseudonyms" in large
    assert placeholder.startswith("12 scans carry the placeholder patient id 'ANONYMOUS'; taken as unknown")
    assert one.startswith("1 scan carries the placeholder patient id '0'")
