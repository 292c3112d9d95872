"""The header of a DICOM file, for results that refer to it."""
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sonoseek.core import ScanReadError, Settings


@dataclass(frozen=True, kw_only=True)
class SourceHeader:
    """Stand-in with the agreed signature; the sandboxed reader replaces it."""

    attributes: Mapping[str, Any]

    def _text(self, tag: str) -> str:
        value = (self.attributes.get(tag, {}).get("Value") or [""])[0]
        return str(value.get("Alphabetic", "") if isinstance(value, Mapping) else value)

    @property
    def sop_class_uid(self) -> str:
        return self._text("00080016")

    @property
    def sop_instance_uid(self) -> str:
        return self._text("00080018")

    @property
    def study_instance_uid(self) -> str:
        return self._text("0020000D")

    @property
    def series_instance_uid(self) -> str:
        return self._text("0020000E")

    @property
    def modality(self) -> str:
        return self._text("00080060")

    @property
    def patient_id(self) -> str:
        return self._text("00100020")

    @property
    def patient_name(self) -> str:
        return self._text("00100010")

    @property
    def accession_number(self) -> str:
        return self._text("00080050")

    @property
    def study_date(self) -> str:
        return self._text("00080020")

    @property
    def body_part(self) -> str:
        return self._text("00180015")


def read_source_header(path: str | Path, *, settings: Settings | None = None) -> SourceHeader:
    """Read the header of a DICOM file."""
    del settings
    from pydicom import dcmread

    try:
        dataset = dcmread(path, stop_before_pixels=True, defer_size=4096)
        return SourceHeader(attributes=dataset.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=str))
    except Exception as error:
        raise ScanReadError(f"{path}: this is no DICOM file ({type(error).__name__}).") from error
