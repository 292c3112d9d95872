"""How and where a run was made: beside its recipe, one entry per call, so that another can make it again."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sonoseek.core.files import write_atomically
from sonoseek.core.version import __version__
from sonoseek.training import distributed
from sonoseek.training.options import Machine, Upkeep

ENVIRONMENT_FILE = "environment.json"
PACKAGES = (
    "torch",
    "lightning",
    "torchmetrics",
    "numpy",
    "opencv-python-headless",
    "onnx",
    "onnxscript",
    "onnxruntime",
)

PROGRAMS = ("sonoseek", "__main__.py")
"""First words of a command line: the script, or `python -m sonoseek`."""
LEFT_OUT = ("--data", "--weights", "--resume")


def describe_call(machine: Machine, upkeep: Upkeep, *, seed: int) -> dict[str, Any]:
    """Versions, seeds, device, threads and command line of this process."""
    accelerator = distributed.accelerator_of(machine)
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "sonoseek": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "seed": seed,
        "accelerator": accelerator,
        "device": torch.cuda.get_device_name() if accelerator == "gpu" else platform.processor() or platform.machine(),
        "cuda": torch.version.cuda,
        "devices": machine.devices,
        "nodes": machine.nodes,
        "precision": machine.precision,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "checkpoint_minutes": upkeep.checkpoint_minutes,
        "checkpoint_steps": upkeep.checkpoint_steps,
    }


def note_call(run_dir: Path, call: dict[str, Any]) -> None:
    """Add a call to the run's `environment.json`; a list, oldest first."""
    file = run_dir / ENVIRONMENT_FILE
    try:
        calls = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        calls = []
    write_json(file, [*calls, call])


def command_of(run_dir: Path) -> str:
    """The command that began a run, as `command_shown` shows it; "" where the run does not hold it."""
    try:
        calls = json.loads((run_dir / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
        return command_shown(calls[0]["command"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def command_shown(command: Sequence[str]) -> str:
    """A command line as another may repeat it, for a card that leaves this machine.

    Folders of data and weights, which each machine sets for itself, are left out, and so is `--resume`: a run that was
    stopped comes out the same. Of absolute paths the part below the working folder is kept, or the name alone.

    Args:
        command: program and arguments.

    Returns:
        One line; "" where it was no verb of `sonoseek` that trains.
    """
    if len(command) < 2 or command[0] not in PROGRAMS or command[1] not in ("train", "evaluate"):
        return ""
    words, skip = [], False
    for word in command[1:]:
        option, equals, value = word.partition("=")
        if skip:
            skip = False
            continue
        if option in LEFT_OUT:
            skip = option != "--resume" and not equals  # its value is a word of its own
            continue
        words.append(f"{option}={_near(value)}" if equals and option.startswith("--") else _near(word))
    return shlex.join(["sonoseek", *words])


def _near(word: str) -> str:
    path = Path(word)
    if not path.is_absolute():
        return word
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
