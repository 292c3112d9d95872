"""The child process of `first_run`: opens a network and runs it on empty and on noisy input, within limits.

Started as a file, not as a module: it imports NumPy and ONNX Runtime, and nothing of sonoseek. Its argument is JSON:
"model", a path; "inputs", name → shape, the canvas first, others are all −1; "outputs", names; "cpu_s" and "memory" in
bytes. It prints JSON: "stage", where it ended ("done", or "open", "interface", "run"), and "error".
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # see `runtime`


def main() -> None:
    """Run once, and say how it went."""
    request = json.loads(sys.argv[1])
    _limit(cpu_s=request["cpu_s"], memory=request["memory"])
    stage, error = _run(request["model"], request["inputs"], request["outputs"])
    json.dump({"stage": stage, "error": error}, sys.stdout)


def _run(model: str, inputs: Mapping[str, list[int]], outputs: list[str]) -> tuple[str, str]:
    """(stage at which it ended, error)."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    stage = "open"
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        given = {each.name for each in session.get_inputs()}
        if given != set(inputs) or not set(outputs) <= {each.name for each in session.get_outputs()}:
            return "interface", ""
        stage = "run"
        canvas = next(iter(inputs))
        feed: dict[str, Any] = {name: np.full(shape, -1, np.float32) for name, shape in inputs.items()}
        for draw in (np.zeros, np.random.default_rng(0).random):
            session.run(outputs, {**feed, canvas: draw(inputs[canvas]).astype(np.float32)})
    except Exception as error:  # ONNX Runtime has a dozen unrelated exception types
        return stage, f"{error}" or type(error).__name__
    return "done", ""


def _limit(*, cpu_s: int, memory: int) -> None:
    """Bound this process; without `resource` (Windows) the parent's clock is the only limit."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


if __name__ == "__main__":
    main()
