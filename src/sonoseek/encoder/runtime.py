"""ONNX Runtime, imported without its telemetry.

Its wheels carry telemetry, which begins when they are imported (a file in the temporary folder then names the session)
unless `ORT_DISABLE_TELEMETRY` is set before. A machine beside a PACS must report to nobody: every import goes through
here.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # after the line above, or it is too late

__all__ = ["onnxruntime", "open_session"]


def open_session(model: str | bytes, *, threads: int) -> Any:
    """A model's session on the CPU.

    Args:
        model: path of an ONNX file, or its content.
        threads: cores to use; 0: all.

    Raises:
        Exception: any of a dozen unrelated types of ONNX Runtime; it does not open the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; they are raised as well
    # A waiting thread must not spin: with every core taken, spinning turns 3 ms into hundreds.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
