"""Atomic writes: a file is complete, or it is not there."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write `content`, a str as UTF-8, beside `path`, then move it there. Returns `path`."""
    beside = path.with_name(f".{path.name[:80]}.{uuid.uuid4().hex[:12]}.part")
    try:
        with beside.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path
