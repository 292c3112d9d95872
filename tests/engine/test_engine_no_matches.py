"""Why a search found nothing."""

from __future__ import annotations

import numpy as np
import pytest

from sonoseek.core import CaseRecord, WhereError
from sonoseek.engine.no_matches import explain_no_matches
from sonoseek.gallery import Exclusion, Gallery, GalleryEntry, create_gallery


@pytest.fixture
def as_busi(tmp_path):
    """An archive without BI-RADS, device or patients; two of its five scans are of one group."""
    rng = np.random.default_rng(1)
    with create_gallery(tmp_path / "busi", bundle_id="b", dimension=8) as gallery:
        gallery.add(
            GalleryEntry(
                record=CaseRecord(
                    case_id=f"c{i}", dataset="busi", pathology="benign" if i else "normal", group=f"g{max(i, 1)}"
                ),
                scan_id=f"{i:064x}",
                embedding=rng.normal(size=8).astype(np.float32),
                scan_shape=(100, 100),
            )
            for i in range(5)
        )
        yield gallery


def test_a_field_that_no_scan_has_is_named(as_busi: Gallery) -> None:
    assert explain_no_matches(as_busi, where="birads >= '4A' and device = 'GE Logiq 7'") == (
        "No scan of this archive has a BI-RADS category or a device: the filter birads >= '4A' and device = "
        "'GE Logiq 7' passes none of its 5 scans."
    )
    assert "BI-RADS descriptor for margin" in str(explain_no_matches(as_busi, where="margin contains 'spic'"))


def test_a_field_that_scans_have_is_not_said_to_be_missing(gallery: Gallery) -> None:
    said = explain_no_matches(gallery, where="birads = '6'")
    assert said == "None of the archive's 40 scans passes the filter birads = '6'."
    assert explain_no_matches(gallery, where="device is null") == (
        "None of the archive's 40 scans passes the filter device is null."
    )


def test_scans_that_pass_but_are_the_asking_patient_s_are_counted(as_busi: Gallery) -> None:
    own = Exclusion(groups=(("busi", "g1"),))
    assert explain_no_matches(as_busi, where="label = 'normal'", exclusion=own) == (
        "The only scan that passes the filter label = 'normal' is the scan that is asked about, or of its patient or "
        "group, and was left out."
    )
    everybody = Exclusion(groups=tuple(("busi", f"g{i}") for i in range(1, 5)))
    assert str(explain_no_matches(as_busi, exclusion=everybody)).startswith("All 5 scans of the archive are the scan")
    assert "All 4 scans that pass the filter label = 'benign'" in str(
        explain_no_matches(as_busi, where="label = 'benign'", exclusion=everybody)
    )


def test_nothing_asked_and_nothing_there(as_busi: Gallery, empty_gallery: Gallery) -> None:
    assert explain_no_matches(as_busi, k=0) == "No matches were asked for (k = 0)."
    assert "archive is empty" in str(explain_no_matches(empty_gallery, where="label = 'benign'"))


def test_where_there_are_matches_nothing_is_said(as_busi: Gallery) -> None:
    assert explain_no_matches(as_busi) is None
    assert explain_no_matches(as_busi, where="label = 'benign'", exclusion=Exclusion(groups=(("busi", "g1"),))) is None


def test_a_filter_that_does_not_parse_is_refused(as_busi: Gallery) -> None:
    with pytest.raises(WhereError, match="lable"):
        explain_no_matches(as_busi, where="lable = 'benign'")
