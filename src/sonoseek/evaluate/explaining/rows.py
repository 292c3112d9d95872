"""What is measured of one map, one pair, one outline: rows of the result files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from sonoseek.core import ResultsError

NAN = math.nan
DIGITS = 6
Row = TypeVar("Row")


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """One map of one scan; NaN where something was not measured or does not apply.

    Attributes:
        fold, scan, group, label: of the scan.
        verdict: the likeliest class. target: "verdict" or "truth": which of the two classes the map explains.
        method: in the table of methods, or "centre" and "random", the floors.
        area: share of the scan that the mask covers.
        inside, with_shadow, pointing, iou: as `Localisation`.
        insertion, deletion, road: as in `faithfulness`.
        randomised: rank correlation with the map of the same network with random weights, where there is scan.
        other_class: rank correlation with the map of the second likeliest class.
        shifted, gained: rank correlation with the map of the scan shifted by a few pixels, of the scan 10 % brighter.
        error: |pixels + bias − logit| of an exact method.
    """

    fold: int
    scan: str
    group: str
    label: str
    verdict: str
    target: str
    method: str
    area: float = NAN
    inside: float = NAN
    with_shadow: float = NAN
    pointing: float = NAN
    iou: float = NAN
    insertion: float = NAN
    deletion: float = NAN
    road: float = NAN
    randomised: float = NAN
    other_class: float = NAN
    shifted: float = NAN
    gained: float = NAN
    error: float = NAN


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """One pair map: how far the similarity falls when its strongest tenth of cells goes, and when a random tenth goes.

    Attributes:
        fold, scan, group, label: of the query. match: the best one of the gallery.
        side: "query" or "match": whose cells go.
        method: in the table of methods, or "centre".
        similarity: cosine before.
        chosen, random: its fall.
        error: |pixels − cosine| of an exact method.
    """

    fold: int
    scan: str
    group: str
    label: str
    match: str
    side: str
    method: str
    similarity: float
    chosen: float
    random: float
    error: float = NAN


@dataclass(frozen=True, kw_only=True)
class OutlineRow:
    """The outline of one verdict's evidence beside the drawn mask; lengths as ratios, estimate over truth.

    Attributes:
        fold, scan, group, label, verdict: of the scan.
        drawn: 1 where there was anything to outline.
        dice: overlap. longest, shortest, area: estimate over mask.
        depth: estimate minus mask, as a share of the scan's height.
        taller: 1 where estimate and mask agree on "taller than wide".
    """

    fold: int
    scan: str
    group: str
    label: str
    verdict: str
    drawn: float
    dice: float = NAN
    longest: float = NAN
    shortest: float = NAN
    area: float = NAN
    depth: float = NAN
    taller: float = NAN


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Replace a CSV of rows of one kind in one step; numbers to six digits, NaN as nothing."""
    kind = type(rows[0])
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    names = [field.name for field in fields(kind)]
    writer.writerow(names)
    for row in rows:
        writer.writerow(_cell(value) for value in asdict(row).values())
    part = path.with_name(path.name + ".part")
    part.write_text(held.getvalue(), encoding="utf-8")
    part.replace(path)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Read what `write_rows` wrote.

    Raises:
        ResultsError: not there, another header, or a cell that does not read.
    """
    hints = get_type_hints(kind)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != list(hints):
                raise ResultsError(
                    f"{path} has the columns {reader.fieldnames}; expected {list(hints)}. Evaluate again."
                )
            return [kind(**dict(_values(line, hints))) for line in reader]
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(f"{path} does not read ({error}). Evaluate again.") from error


def _values(line: dict[str, str], hints: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, hint in hints.items():
        text = line[name]
        yield name, text if hint is str else hint(text) if text else NAN


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.{DIGITS}g}"
    return value
