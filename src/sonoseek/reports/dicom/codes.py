"""The codes of the results: SNOMED CT, DCM and UCUM where they have the concept, else our own scheme.

`docs/reference/dicom-results.md` lists each with its meaning.
"""

from __future__ import annotations

from typing import Final

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.sr.coding import Code

SCHEME: Final = "99SONOSEEK"
"""Our private coding scheme; those that start with 99 need no registration. PS3.16 8.2."""

IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
ULTRASONOGRAPHY_OF_BREAST = Code("47079000", "SCT", "Ultrasonography of breast")
BREAST = Code("76752008", "SCT", "Breast")
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
PROBABILITY_OF_CANCER = Code("111047", "DCM", "Probability of cancer")
"""As in TID 4006, in per cent."""
PERCENT = Code("%", "UCUM", "Percent")
CLASSES = {
    "malignant": Code("21594007", "SCT", "Malignant"),
    "benign": Code("30807003", "SCT", "Benign"),
    "normal": Code("17621005", "SCT", "Normal"),
}
"""Class of a bundle → qualifier value."""
UNDETERMINED = Code("373068000", "SCT", "Undetermined")
"""Value of the class where the system abstains ("not sure")."""
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
TISSUE = Code("85756007", "SCT", "Tissue")
"""Segmented property category: the segment is a region of tissue, no diagnosis."""

ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
"""Algorithm family of CID 7162."""

EVIDENCE = Code("EVIDENCE", SCHEME, "Evidence for the likeliest class")
WHOLE_IMAGE = Code("WHOLE_IMAGE", SCHEME, "Whole image, without an outline")
HEADLINE = Code("HEADLINE", SCHEME, "Result in words")
PREDICTED_CLASS = Code("PREDICTED_CLASS", SCHEME, "Predicted class")
READER_CLASS = Code("READER_CLASS", SCHEME, "Class stated by the reader")
READER_DECISION = Code("READER_DECISION", SCHEME, "Decision of the reader")
SIMILAR_CASE = Code("SIMILAR_CASE", SCHEME, "Similar case of the archive")
ASKED_FRAME = Code("ASKED_FRAME", SCHEME, "Likelihood of malignancy of a frame")
WARNING = Code("WARNING", SCHEME, "Warning")
DISCLAIMER = Code("DISCLAIMER", SCHEME, "Disclaimer")


def class_code(name: str) -> Code:
    """Code of a class: SNOMED CT of the three that ship, else of our own scheme."""
    if name in CLASSES:
        return CLASSES[name]
    plain = "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in name.upper()) or "_"
    return Code(f"CLASS_{plain}"[:16].rstrip("_"), SCHEME, (name.strip() or "?")[:64])


def concept(code: Code) -> CodedConcept:
    """An item of a code sequence."""
    return CodedConcept(code.value, code.scheme_designator, code.meaning)


def scheme_item() -> CodingSchemeIdentificationItem:
    """What the private scheme is, for CodingSchemeIdentificationSequence (0008,0110)."""
    return CodingSchemeIdentificationItem(
        designator=SCHEME,
        name="sonoseek: results of a search engine for breast ultrasound",
        version="1",
        responsible_organization="sonoseek",
    )
