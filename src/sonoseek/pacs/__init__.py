"""Beside a PACS: scans in by themselves, results back as DICOM objects. Needs the extra `pacs`."""
