"""Any scan file → `Scan`: PNG, JPEG, BMP, TIFF, GIF and DICOM, distinguished by their content, never by their suffix.

`read_scan("exam.dcm", frame=3)` gives a scan, `read_mask("benign (1)_mask.png")` its lesion.
"""

from sonoseek.io.dicom.source_header import SourceHeader, read_source_header
from sonoseek.io.scan import frame_count, is_scan_file, read_mask, read_rgb, read_scan

__all__ = ["SourceHeader", "frame_count", "is_scan_file", "read_mask", "read_rgb", "read_scan", "read_source_header"]
