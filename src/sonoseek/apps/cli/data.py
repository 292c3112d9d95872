"""`sonoseek data`: list, get, check, audit and split datasets; write phantoms."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sonoseek.core import PATHOLOGIES, CaseRecord, InvalidValueError, SplitError
from sonoseek.core.csv_cells import csv_cell

app = typer.Typer(help="Datasets: list, get, check, audit, split.", no_args_is_help=True)

FINDINGS = {
    "exact_pairs": "pairs with the same pixels",
    "near_pairs": "pairs with the same picture",
    "related_pairs": "pairs of neighbouring frames",
    "groups": "groups of two or more copies",
    "cross_label_groups": "groups with two labels",
    "unstated_pairs": "pairs that no stated group covers",
    "crossing": "pairs that the split separates",
    "marked": "scans with burned-in annotations",
    "marked_inside": "of them, away from the edges",
    "unreadable": "unreadable cases",
    "dominant_patients": "patients who hold more than half of a dataset",
    "placeholders": "scans with a placeholder as patient id",
}
"""What an audit counts, in the words of its page."""

FOLDS = 5
"""That an audit looks into, where the archive has as many groups."""

Name = Annotated[str, typer.Argument(help="Name of a dataset; see `data list`.")]
Data = Annotated[Path | None, typer.Option(help="Where the dataset lies.")]


@app.command("list")
def list_() -> None:
    """Name the datasets, with licence and source."""
    from sonoseek.apps.cli.show import table
    from sonoseek.datasets import DATASETS, describe

    cards = [describe(name) for name in DATASETS]
    rows = [(c.name, c.title, c.count or "any", len(c.classes), c.licence, c.url) for c in cards]
    table(("name", "what", "scans", "classes", "licence", "source"), rows)


@app.command()
def get(
    name: Name,
    to: Annotated[Path, typer.Option("--to", help="Folder to put it in.")] = Path("data"),
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="Yes, I have read the licence.")] = False,
) -> None:
    """Download a dataset from its source, after showing licence and citation. A cut download is continued."""
    from sonoseek.apps.cli.show import progress_bar
    from sonoseek.datasets import describe
    from sonoseek.datasets.download import fetch

    card = describe(name)
    typer.echo(f"{card.title}\n  source:  {card.url}\n  licence: {card.licence}\n  cite:    {card.citation}")
    accepted = accept_licence or typer.confirm("Download under this licence?")
    with progress_bar(f"get {name}", unit="bytes") as on_progress:
        folder = fetch(name, to, accept_licence=accepted, on_progress=on_progress)
    typer.echo(f"{name}: {folder}")


@app.command()
def check(name: Name, data: Data = None) -> None:
    """Open every case; count classes, scans and masks; list what cannot be read."""
    from sonoseek.apps.cli.show import progress_bar, refusals, table, warnings
    from sonoseek.core.patients import patient_warnings
    from sonoseek.datasets import check_dataset, components, open_dataset

    dataset = open_dataset(name, data)
    with progress_bar(f"check {name}", unit="cases") as on_progress:
        result = check_dataset(dataset, on_progress=on_progress)
    refusals(list(result.refused.items()))
    rows: list[tuple[str, object]] = [("cases", result.cases), *result.classes.items()]
    rows += [
        ("groups that a split keeps together", len(components(dataset.records()))),
        ("cases with identical pixels", sum(len(cases) for cases in result.repeated.values())),
        ("lesions without a mask", len(result.without_mask)),
        ("refused", len(result.refused)),
        *((f"known defect of {case}", what) for case, what in result.known.items()),
    ]
    table(("", name), rows)
    warnings(patient_warnings(result.largest_patients, result.placeholders))
    warnings([f"{place} is left out: {why}" for place, why in result.left_out.items()])
    if not result.cases:
        warnings([f"no scan of {name} is there; nothing was checked."])
    if result.refused or result.left_out or not result.cases:
        raise typer.Exit(2)


@app.command()
def audit(
    name: Name,
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for page, groups and figures.")] = Path("audit"),
    folds: Annotated[
        int | None,
        typer.Option(
            min=0, help="Also count pairs that so many folds would separate; 0: none. Default: 5 if there are enough."
        ),
    ] = None,
) -> None:
    """Find duplicates, conflicting labels, burned-in annotations and revealing masks; write a page of them."""
    import json

    from sonoseek.apps.cli.show import progress_bar, table, warnings
    from sonoseek.core.files import PRIVATE, make_private_folder, write_atomically
    from sonoseek.datasets import open_dataset
    from sonoseek.datasets.audit import audit as run_audit
    from sonoseek.datasets.audit import write_audit_page, write_groups_csv
    from sonoseek.datasets.splits import stratified_group_folds

    dataset = open_dataset(name, data)
    make_private_folder(out)  # before the work: a folder that cannot be made is known at once
    try:
        parts = None if folds == 0 else stratified_group_folds(dataset.records(), folds=folds or FOLDS)
    except SplitError as error:
        if folds is not None:
            raise
        warnings([f"no split is checked: {error}"])  # the rest of the audit needs none, and may say why there is none
        parts = None
    with progress_bar(f"audit {name}", unit="steps") as on_progress:
        result = run_audit(dataset, folds=parts, on_progress=on_progress)
    write_audit_page(result, dataset, out / "audit.html")
    write_groups_csv(result, out / "groups.csv")
    write_atomically(out / "audit.json", json.dumps(result.to_dict(), indent=1), mode=PRIVATE)
    table(("", name), [(FINDINGS.get(key, key), value) for key, value in result.counts().items()])
    warnings(result.warnings)
    typer.echo(f"page: {out / 'audit.html'}")


@app.command()
def split(
    name: Name,
    data: Data = None,
    folds: Annotated[int, typer.Option(min=2)] = 5,
    seed: Annotated[int, typer.Option()] = 0,
    official: Annotated[bool, typer.Option(help="The dataset's own folds.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV: case_id, pathology, group, fold.")] = None,
) -> None:
    """Make folds that keep each group together, and show how balanced they are."""
    from sonoseek.apps.cli.show import table
    from sonoseek.core.files import PRIVATE, write_atomically
    from sonoseek.datasets import open_dataset
    from sonoseek.datasets.splits import check_split, official_folds, stratified_group_folds

    dataset = open_dataset(name, data)
    records = dataset.records()
    parts = (
        official_folds(dataset, folds=folds) if official else stratified_group_folds(records, folds=folds, seed=seed)
    )
    where = {case_id: i for i, part in enumerate(parts) for case_id in part.test}
    for part in parts:
        check_split(records, part)
    table(("fold", "cases", *PATHOLOGIES, "groups"), _fold_rows(records, where, folds=len(parts)))
    if out:
        text = io.StringIO()
        rows = csv.writer(text)
        rows.writerow(("case_id", "pathology", "group", "fold"))
        rows.writerows((csv_cell(r.case_id), r.pathology, csv_cell(r.group), where[r.case_id]) for r in records)
        write_atomically(out, text.getvalue(), mode=PRIVATE)
        typer.echo(f"folds: {out}")


def _fold_rows(records: tuple[CaseRecord, ...], where: dict[str, int], *, folds: int) -> list[tuple[int, ...]]:
    rows = []
    for fold in range(folds):
        in_fold = [r for r in records if where.get(r.case_id) == fold]
        shares = [sum(r.pathology == p for r in in_fold) for p in PATHOLOGIES]
        rows.append((fold, len(in_fold), *shares, len({r.group or r.case_id for r in in_fold})))
    return rows


@app.command()
def phantom(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; gets one sub-folder per class, with masks.")],
    count: Annotated[int, typer.Option(min=1)] = 60,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Write simulated scans as PNG files, in the layout that `--dataset folder` reads."""
    from sonoseek.apps.cli.show import progress_bar

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidValueError(
            f"{out} is not an empty folder; phantoms go into a new folder, so that nothing is overwritten."
        )
    with progress_bar("phantoms") as on_progress:
        write_phantoms(out, count=count, seed=seed, on_progress=on_progress)
    typer.echo(f"{count} phantoms: {out}")


def write_phantoms(out: Path, *, count: int, seed: int, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Render `count` phantoms into `out/<class>/<case>.png` with `<case>_mask.png` beside."""
    from PIL import Image

    from sonoseek.datasets.phantom import PhantomDataset

    dataset = PhantomDataset(count=count, seed=seed)
    for done, record in enumerate(dataset.records(), start=1):
        case = dataset.load(record.case_id)
        folder = out / record.pathology
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(case.scans[0].pixels).save(folder / f"{record.case_id}.png")
        if case.lesion_masks[0] is not None:
            Image.fromarray(case.lesion_masks[0]).save(folder / f"{record.case_id}_mask.png")
        if on_progress is not None:
            on_progress(done, count)
