"""Results as DICOM objects beside their source: pure functions, a `Report` and the header of its source → files.

`render_dicom(report, read_source_header("scan.dcm"), study_key="…")` gives a structured report and a picture of it.
Needs the extra `pacs` (highdicom), which is imported on first use.
"""

from sonoseek.reports.dicom.render import KINDS, render_dicom
from sonoseek.reports.dicom.values import DicomResult, QueriedFrame, Verification

__all__ = ["KINDS", "QueriedFrame", "DicomResult", "Verification", "render_dicom"]
