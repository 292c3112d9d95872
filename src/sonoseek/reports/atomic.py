"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, text: str) -> Path:
    """Write UTF-8 `text` beside `path`, then move it there. Returns `path`."""
    beside = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:12]}.part")
    try:
        with beside.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
