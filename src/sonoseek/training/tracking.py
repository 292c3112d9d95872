"""A run's curves: `metrics.csv` for every run, and TensorBoard where it is wanted."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import from_extra
from sonoseek.core.files import write_atomically

CSV_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tensorboard"
FIRST = ("kind", "epoch", "step")
"""First columns of the table; "kind" is "step" or "epoch"."""


class CsvLog:
    """A table that grows by a row; a column that comes later makes the table anew, once.

    A resumed run goes on behind the last row that its checkpoint knows of: rows of steps that are done again are
    dropped, so no step stands twice.
    """

    def __init__(self, path: Path, *, step: int) -> None:
        """Open the table at `path`.

        Args:
            path: of the file; its folder is there.
            step: steps that the run has done; later rows, of a run that was killed after its checkpoint, are dropped.
        """
        self._path = path
        self._rows = [row for row in _read(path) if int(row["step"]) <= step]
        self._columns = list(dict.fromkeys([*FIRST, *(name for row in self._rows for name in row)]))
        self._write_all()

    def add(self, kind: str, *, epoch: int, step: int, values: Mapping[str, float]) -> None:
        """Append a row; it is on the disk when this returns."""
        row = {"kind": kind, "epoch": str(epoch), "step": str(step), **{k: f"{v:.9g}" for k, v in values.items()}}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._write_all()
            return
        with self._path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, self._columns, restval="", lineterminator="\n").writerow(row)

    def _write_all(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self._path, text.getvalue())


def _read(path: Path) -> list[dict[str, str]]:
    """Whole rows; a kill may have cut the last one."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [
        {name: value for name, value in row.items() if value}
        for row in csv.DictReader(io.StringIO(whole))
        if None not in row and None not in row.values() and row.get("step", "").isdigit()
    ]


class Board:
    """TensorBoard's files. They hold pictures of scans, so the folder keeps itself out of a repository."""

    def __init__(self, folder: Path, *, step: int) -> None:
        """Write under `folder`; what an earlier run wrote after `step` is hidden by TensorBoard.

        Raises:
            MissingExtraError: `tensorboard` is not installed.
        """
        with from_extra("train"):
            from torch.utils.tensorboard.writer import SummaryWriter
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        self._writer: Any = SummaryWriter(
            str(folder), purge_step=step + 1 if step else None, filename_suffix=f".{os.getpid()}"
        )

    def curves(self, values: Mapping[str, float], *, step: int, group: str) -> None:
        """A point on each curve `group`/name."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._writer.flush()

    def picture(self, name: str, pixels: NDArray[np.uint8], *, step: int) -> None:
        """uint8 (H, W, 3)."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
