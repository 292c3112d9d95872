"""Results of pathology from a CSV table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sonoseek.core import DatasetError, InvalidValueError
from sonoseek.datasets.fields import is_empty, parse_birads, parse_date
from sonoseek.datasets.tables import Row, read_table
from sonoseek.pacs.pathology.terms import Terms
from sonoseek.pacs.pathology.values import Result, parse_side


def read_csv_results(path: Path, terms: Terms) -> list[Result]:
    """Read a table: a row per result, separated by comma, semicolon or tab, in UTF-8, UTF-16 or Windows-1252.

    Columns are those of `[columns]` in the table of terms; others are not read. `diagnosis` is looked up, or
    `histology` where it is empty. Where both are in the table of terms they must agree.

    Raises:
        DatasetError: it does not read, has no diagnosis, or nothing that names a study.
    """
    rows = read_table(path, requires=())
    columns = _columns(rows, terms, path=path)
    return [_result(row, columns, terms) for row in rows]


def _columns(rows: list[Row], terms: Terms, *, path: Path) -> Mapping[str, str]:
    """Our name of a column → its name in the table."""
    if not rows:
        raise DatasetError(
            f"{path} lists no result; it has a row of column names, then a row per result. HL7 messages begin with MSH."
        )
    there = {name.casefold(): name for name in rows[0]}
    columns = {}
    for name, aliases in terms.columns.items():
        names = [there[alias] for alias in aliases if alias in there]
        if len(names) > 1:
            raise DatasetError(
                f"{path} has the columns {', '.join(names)}, which all mean {name}; one may. Rename others, or name "
                "the right one in [columns] of the table of terms."
            )
        if names:
            columns[name] = names[0]
    if not {"diagnosis", "histology"} & set(columns) or not {"accession", "patient_id"} & set(columns):
        raise DatasetError(
            f"{path} has the columns {', '.join(there.values())}; a table of results has accession or patient_id, and "
            "diagnosis or histology. Rename them, or name them in [columns] of the table of terms (--terms)."
        )
    return columns


def _result(row: Row, columns: Mapping[str, str], terms: Terms) -> Result:
    cells = {name: row[column] for name, column in columns.items()}
    diagnosis, histology = cells.get("diagnosis", ""), cells.get("histology", "")
    texts = (diagnosis,) if diagnosis else (histology,)
    pathology, problem = terms.classify(texts)
    if diagnosis and histology and pathology:
        other, _ = terms.classify((histology,))
        if other not in (None, pathology):
            pathology, problem = None, f"its diagnosis says {pathology}, its histology {other}"
    day, birads = None, ""
    try:
        day = parse_date(cells.get("date", ""), name="date")
        birads = parse_birads(cells.get("birads", "")) or ""
    except InvalidValueError as error:
        pathology, problem = None, str(error)
    side = parse_side("" if is_empty(cells.get("laterality", "")) else cells["laterality"])
    if side is None:
        pathology, problem = None, f"its side is {cells['laterality'][:40]!r}; it must be left, right, both or empty"
    return Result(
        origin=row.origin,
        accessions=tuple(filter(None, (cells.get("accession", ""),))),
        patient_ids=tuple(filter(None, (cells.get("patient_id", ""),))),
        day=day,
        side=side or "",
        pathology=pathology,
        texts=texts,
        problem=problem,
        histology=histology or diagnosis,
        birads=birads,
    )
