"""DICOM ultrasound file → `Scan`. Files are parsed in a child process with limits; the parent never touches pydicom.

`read_dicom("exam.dcm", frame=12)` gives a scan, `frame_count("exam.dcm")` how many frames there are.
Patient names and numbers do not leave the child with a scan: `Scan.patient_id` is a pseudonym, made with the site key.
`read_source_header` alone gives them, to file results under the same patient and study.
"""

from sonoseek.io.dicom.scan import frame_count, read_dicom

__all__ = ["frame_count", "read_dicom"]
