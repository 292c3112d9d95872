"""The first run of a network from elsewhere takes place in a child process, with limits on time and memory.

An ONNX file is a program: it can loop without end, or ask for any amount of memory, and neither can be stopped once it
runs in this process. What ships with the package is trusted: its sha256 is recorded beside it. What a network does for
one input it may not do for another: this keeps out files that are broken or made to harm anyone, not those that wait
for a certain scan. Take bundles only from people whom you trust.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from sonoseek.core import BundleError
from sonoseek.encoder.bundle import LARGEST_MODEL, opened_file
from sonoseek.io.sandbox import child_environment

CPU_S = 60
"""CPU seconds of the child. The bundles that ship take 0.3 s."""
WALL_S = 180.0
"""Seconds by the clock, for a machine that is busy."""
MEMORY = 4 << 30
"""Bytes of the child's address space, beyond twice the model's file."""
_CHILD = Path(__file__).with_name("first_run_child.py")
_REMEDY = "Export the bundle again, or do without it."
_passed: set[str] = set()
_lock = threading.Lock()


def check_first_run(model: Path, *, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> None:
    """Run a network once in a child process, unless one of the same content passed in this process before.

    Where inputs and outputs have other names nothing is run: the caller, who opens the network next, refuses it.

    Args:
        model: ONNX file, an ordinary one.
        inputs: name → shape, of float32; the canvas first, others are filled with −1.
        outputs: names.

    Raises:
        BundleError: ONNX Runtime refuses the file, the run fails, or it exceeds `CPU_S`, `WALL_S` or `MEMORY`.
    """
    with opened_file(model.parent, model.name, largest=LARGEST_MODEL) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with _lock:
        if digest not in _passed:
            _run(model, inputs, outputs)
            _passed.add(digest)


def _run(model: Path, inputs: Mapping[str, Sequence[int]], outputs: Sequence[str]) -> None:
    request = {
        "model": str(model.absolute()),
        "inputs": {name: list(shape) for name, shape in inputs.items()},
        "outputs": list(outputs),
        "cpu_s": CPU_S,
        "memory": MEMORY + 2 * model.stat().st_size,
    }
    command = [sys.executable, "-P", str(_CHILD), json.dumps(request)]
    try:
        done = subprocess.run(  # our own interpreter and our own code
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),  # without the token of a server
            timeout=WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"{model}: its first run was stopped after {WALL_S:g} s; {_LOOPS} {_REMEDY}") from error
    except OSError as error:
        raise BundleError(
            f"{model}: its first run, in a process of its own, did not start ({error}); it needs {sys.executable}. "
            "Check that it may start processes."
        ) from error
    if done.returncode == -getattr(signal, "SIGXCPU", 24):
        raise BundleError(f"{model}: its first run was stopped after {CPU_S} s of CPU; {_LOOPS} {_REMEDY}")
    if done.returncode:
        raise BundleError(
            f"{model}: the process of its first run ended with {done.returncode}; at most {MEMORY >> 20} MiB beyond "
            f"twice its size are given to it. {_REMEDY}"
        )
    reply = json.loads(done.stdout)
    if reply["stage"] == "open":
        raise BundleError(f"ONNX Runtime does not open {model}: {reply['error'][:1000]}. {_REMEDY}")
    if reply["stage"] == "run":
        raise BundleError(
            f"{model}: its first run fails: {reply['error'][:1000]}. At most {MEMORY >> 20} MiB beyond twice its size "
            f"are given to it. {_REMEDY}"
        )


_LOOPS = "a network answers within seconds, so this one loops without end or is far too large."
