"""DICOM files without what identifies the patient: headers, UIDs, dates, pixels.

The command is `sonoseek deidentify`.
"""
