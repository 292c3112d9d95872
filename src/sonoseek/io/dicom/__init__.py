"""DICOM ultrasound file → `Scan`. Files are parsed in a child process with limits; the parent never touches pydicom.

`read_dicom("exam.dcm", frame=12)` gives a scan, `frame_count("exam.dcm")` how many frames there are.
Patient names and numbers never leave the child: `Scan.patient_id` is a pseudonym, made with the site key.
"""

from sonoseek.io.dicom.scan import frame_count, read_dicom

__all__ = ["frame_count", "read_dicom"]
