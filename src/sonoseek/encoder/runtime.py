"""ONNX Runtime, imported without its telemetry.

Its wheels carry telemetry, which begins when they are imported (a file in the temporary folder then names the session)
unless `ORT_DISABLE_TELEMETRY` is set before. A machine beside a PACS must report to nobody: every import goes through
here.
"""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # after the line above, or it is too late

__all__ = ["onnxruntime"]
