"""`sonoseek index`: build and maintain a gallery."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sonoseek.apps.cli.options import Bundle
from sonoseek.core import GalleryError, InvalidValueError, NotFoundError

if TYPE_CHECKING:
    from sonoseek.gallery import Gallery as OpenGallery

COPIED = 512
"""Scans per write of a copy: some 40 MB."""

app = typer.Typer(help="Build and maintain a gallery.", no_args_is_help=True)

Gallery = Annotated[
    str, typer.Option("--gallery", "-g", help="Folder or file of the gallery, or milvus://HOST:PORT/NAME.")
]


@app.command()
def build(
    gallery: Gallery,
    dataset: Annotated[str, typer.Option(help="A dataset's name, `folder` or `manifest`; see `data list`.")],
    data: Annotated[
        Path | None, typer.Option(help="Where the dataset lies (a folder; for `manifest` the CSV).")
    ] = None,
    bundle: Bundle = None,
    workers: Annotated[int, typer.Option(min=0, help="Parallel workers; 0: as many as keep the cores busy.")] = 0,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Embed on this Ray cluster: HOST:PORT, `auto`, or `local`."),
    ] = None,
    case_ids: Annotated[
        Literal["opaque", "names"],
        typer.Option(help="Cases of your own archive: `opaque`, or by the `names` of their files."),
    ] = "opaque",
) -> None:
    """Embed a dataset into a gallery. A stopped build continues; a file that cannot be read is listed and skipped."""
    from sonoseek.apps.cli.show import progress_bar, refusals, warnings
    from sonoseek.datasets import open_dataset
    from sonoseek.indexing import build_gallery

    with progress_bar(f"index {dataset}") as on_progress:
        result = build_gallery(
            dataset,
            gallery,
            data=data,
            bundle=bundle,
            workers=workers,
            ray=ray,
            on_progress=on_progress,
            case_ids=case_ids,
        )
    total = _count(gallery)
    refusals([(r.source, r.reason) for r in result.refused])
    warnings(result.warnings)
    rate = (result.added + result.updated) / result.seconds if result.seconds else 0.0
    typer.echo(
        f"{gallery}: {result.added} added, {result.updated} updated, {result.unchanged} unchanged, "
        f"{len(result.refused)} refused; {total} scans; {rate:.1f} scans/s"
    )
    if result.refused and not total:
        typer.echo("no scan could be embedded, the gallery would be empty; mend what is listed and try again", err=True)
        raise typer.Exit(2)
    left_out: dict[str, str] = getattr(open_dataset(dataset, data), "left_out", {})
    warnings([f"{place} is left out: {why}" for place, why in left_out.items()])
    if left_out:
        raise typer.Exit(2)


def _count(gallery: str) -> int:
    """Scans in a gallery; 0 where a build put nothing into a new one and so left none."""
    from sonoseek.gallery import open_gallery

    try:
        with open_gallery(gallery) as opened:
            return opened.count()
    except NotFoundError:
        return 0


@app.command()
def add(
    files: Annotated[list[Path], typer.Argument(help="Scans of one case.")],
    gallery: Gallery,
    pathology: Annotated[str, typer.Option(help="Reference standard: normal, benign or malignant.")],
    case: Annotated[str | None, typer.Option(help="Case id; by default an opaque one.")] = None,
    dataset: Annotated[str, typer.Option(help="Name of your archive.")] = "local",
    patient: Annotated[str | None, typer.Option(help="Pseudonym of the patient.")] = None,
    group: Annotated[str | None, typer.Option(help="Scans of one group are never matches of each other.")] = None,
    birads: Annotated[str | None, typer.Option(help="0-6, 4A-4C.")] = None,
    histology: Annotated[str | None, typer.Option()] = None,
    frame: Annotated[int, typer.Option(min=0, help="Frame of multi-frame files, from 0.")] = 0,
    device: Annotated[str | None, typer.Option()] = None,
    age: Annotated[float | None, typer.Option(min=0, max=130, help="Years.")] = None,
    acquired: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    bundle: Bundle = None,
) -> None:
    """Add one case with a reference standard by hand. The same scan again is an update, never a double."""
    from dataclasses import replace

    from sonoseek.apps.cli.show import warnings
    from sonoseek.core import Case
    from sonoseek.core.patients import is_placeholder, patient_warnings
    from sonoseek.encoder import open_encoder
    from sonoseek.gallery.fresh import gallery_to_fill
    from sonoseek.gallery.pseudonyms import note_site_key
    from sonoseek.indexing import make_entry
    from sonoseek.indexing.case_ids import note_files, opaque_id
    from sonoseek.indexing.gallery import filling_bundle
    from sonoseek.io import read_scan

    scans = tuple(read_scan(file, frame=frame) for file in files)
    placeholder = patient if patient and is_placeholder(patient) else scans[0].patient_placeholder
    known = patient if patient and not is_placeholder(patient) else scans[0].patient_id
    encoder = open_encoder(bundle or filling_bundle(gallery))
    # Scanners call every export IMG0001: a name alone would let one case push out another.
    name = f"{files[0].stem}-{scans[0].scan_id[:12]}"
    case_id = case or opaque_id(dataset, name)
    added = Case(
        case_id=case_id,
        dataset=dataset,
        pathology=pathology.lower(),
        patient_id=known,
        group=group,
        birads=birads.upper() if birads else None,
        histology=histology,
        device=device,
        age_years=age,
        acquired=acquired.date() if acquired else None,
        scans=tuple(replace(scan, source=f"{dataset}/{case_id}") for scan in scans),
    )
    network = encoder.bundle
    with gallery_to_fill(
        gallery,
        bundle_id=network.bundle_id,
        dimension=network.embedding_dim,
        duplicate_threshold=network.duplicate_threshold,
    ) as target:
        note_site_key(target, [known])
        if case is None and target.entries(cases=[(dataset, name)], pictures=False, evidence=False):
            added = replace(added, case_id=name)  # from before case ids were opaque: an update, no second case
        result = target.add([make_entry(scan, added, encoder) for scan in added.scans], whole_cases=True)
        typer.echo(
            f"{gallery}: case {added.dataset}/{added.case_id}: {result.added} added, {result.updated} updated, "
            f"{result.unchanged} unchanged, {result.removed} removed; {target.count()} scans"
        )
        if added.case_id != (case or name):
            note_files(target.location, [(dataset, case_id, str(file)) for file in files[:1]])
        shares = [share for share in target.largest_patients() if share.dataset == dataset] if known else []
    warnings(patient_warnings(shares, {placeholder: len(scans)} if placeholder and not known else {}))


@app.command()
def remove(
    gallery: Gallery,
    scan: Annotated[list[str] | None, typer.Option(help="A scan_id (64 hex digits).")] = None,
    case: Annotated[list[str] | None, typer.Option(help="DATASET/CASE.")] = None,
) -> None:
    """Take scans or whole cases out."""
    from sonoseek.gallery import open_gallery

    if not scan and not case:
        raise InvalidValueError("nothing is named; give --scan SCAN_ID or --case DATASET/CASE.")
    cases = [tuple(name.split("/", 1)) for name in case or []]
    if bad := [name for name, parts in zip(case or [], cases, strict=True) if len(parts) != 2]:
        raise InvalidValueError(f"{bad[0]!r} names no case; write DATASET/CASE, as `query` prints it.")
    with open_gallery(gallery, mode="w") as target:
        result = target.remove(scan_ids=scan or (), cases=[(c[0], c[1]) for c in cases])
        typer.echo(f"{gallery}: {result.removed} removed; {target.count()} scans")
    missing = [*result.missing_scan_ids, *("/".join(key) for key in result.missing_cases)]
    for name in missing:
        typer.echo(f"not there: {name}", err=True)
    if missing:
        raise typer.Exit(2)


@app.command()
def info(gallery: Gallery) -> None:
    """Show what a gallery contains."""
    from sonoseek.apps.cli.show import table, warnings
    from sonoseek.core import DESCRIPTORS
    from sonoseek.core.patients import patient_warnings
    from sonoseek.gallery import open_gallery

    with open_gallery(gallery) as target:
        unkeyed = target.count_unkeyed()
        info, words, shares = target.info(), target.descriptor_counts(), target.largest_patients()
        calibration = _calibration(target, cases=info.cases)
    counts = {
        "by diagnosis": info.by_label,
        "by dataset": info.by_dataset,
        "by BI-RADS": info.by_birads,
        "by device": info.by_device,
        "described": {feature: words[feature][""] for feature in DESCRIPTORS if feature in words},
    }
    rows = [
        ("gallery", info.gallery_id),
        ("filled by bundle", info.bundle_id),
        ("embedding", f"{info.dimension} numbers a scan"),
        ("scans / cases", f"{info.scans} / {info.cases}"),
        ("size", f"{info.bytes / 2**20:.1f} MiB"),
        ("searched", info.index),
        ("search cache", f"{info.cache_bytes / 2**20:.1f} MiB"),
        ("schema", info.schema_version),
        ("created", info.created),
        ("calibration", calibration),
        *([("site key", target.site_key)] if target.site_key is not None else []),
        *((name, ", ".join(f"{key} {n}" for key, n in by.items())) for name, by in counts.items() if by),
    ]
    table(("", ""), rows)
    old = f"{unkeyed} cases have pseudonyms without a site key, which can be undone; run `sonoseek index rekey`."
    warnings([*patient_warnings(shares), *([old] if unkeyed else [])])


def _calibration(gallery: OpenGallery, *, cases: int) -> str:
    """Which calibration queries use, and how the gallery has grown since it was fitted."""
    from sonoseek.gallery.calibration_file import calibration_path, read_calibration

    if "://" in gallery.location or not calibration_path(gallery.location).exists():
        return "the bundle's"
    try:
        calibration = read_calibration(gallery)
    except GalleryError as error:
        return f"not usable: {error}"
    if calibration is None or calibration.bundle_id != gallery.bundle_id:
        return "the bundle's; the file beside the gallery is of another bundle: run `sonoseek calibrate` again"
    changed = (
        "" if calibration.gallery_state == gallery.state() else f"; the gallery has changed since, to {cases} cases"
    )
    return f"on {calibration.cases} cases of {calibration.patients} patients or groups, {calibration.fitted}{changed}"


@app.command()
def verify(
    gallery: Gallery,
    sample: Annotated[int, typer.Option(min=0, help="Number of scans to embed again; 0: none.")] = 32,
    dataset: Annotated[
        str | None,
        typer.Option(help="Where the scans came from: the sample is read from its files, not from pictures."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Where the dataset lies.")] = None,
    bundle: Bundle = None,
) -> None:
    """Check a gallery from end to end, and a sample of its embeddings; exit 2 and list what is wrong."""
    from sonoseek.apps.cli.show import progress_bar
    from sonoseek.datasets import open_dataset
    from sonoseek.encoder import open_encoder, shipped_bundle
    from sonoseek.gallery import open_gallery
    from sonoseek.indexing.recheck import recheck_embeddings

    source = None if dataset is None else open_dataset(dataset, data)
    with open_gallery(gallery) as target:
        with progress_bar("verify") as on_progress:
            problems = target.verify(on_progress=on_progress)
        count = target.count()
        again = "no embedding was made again"
        if sample and count and not problems:
            encoder = open_encoder(bundle or shipped_bundle(target.bundle_id))
            if source is None and bundle is None and encoder.bundle.bundle_id != target.bundle_id:
                again += f": that takes --bundle {target.bundle_id}"
            else:
                with progress_bar("embed again") as on_progress:
                    seen = recheck_embeddings(target, encoder, sample=sample, dataset=source, on_progress=on_progress)
                problems += seen.problems
                parts = (f"{seen.from_files} from their files", f"{seen.from_pictures} from their pictures")
                again = "embedded again: " + " and ".join(part for part in parts if not part.startswith("0 "))
    for problem in problems:
        typer.echo(problem, err=True)
    typer.echo(f"{gallery}: {count} scans, {'sound' if not problems else f'{len(problems)} problems'}; {again}")
    if problems:
        raise typer.Exit(2)


@app.command()
def backup(
    gallery: Gallery, to: Annotated[str, typer.Argument(help="Folder or file of the copy; must not exist.")]
) -> None:
    """Copy one state of a gallery, of any engine, into a new SQLite gallery, while it is in use."""
    from sonoseek.gallery import open_gallery

    with open_gallery(gallery) as source:
        source.copy_to(to)
    with open_gallery(to) as copy:
        _copy_calibration(gallery, to)
        typer.echo(f"{gallery} -> {copy.location}: {copy.count()} scans, {copy.info().bytes / 2**20:.1f} MiB")


def _copy_calibration(gallery: str, to: str) -> None:
    """The file beside a gallery goes with its copy, which has the same gallery_id."""
    from sonoseek.apps.cli.show import warnings
    from sonoseek.gallery import open_gallery
    from sonoseek.gallery.calibration_file import calibration_path, read_calibration, write_calibration

    with open_gallery(gallery) as source:
        if "://" in source.location or not calibration_path(source.location).exists():
            return
        try:
            calibration = read_calibration(source)
        except GalleryError as error:
            warnings([f"the calibration is not copied: {error}"])
            return
    if calibration is not None:
        write_calibration(to, calibration)


@app.command()
def copy(
    gallery: Gallery,
    to: Annotated[str, typer.Argument(help="Gallery of any engine; created if there is none, else added to.")],
) -> None:
    """Copy every scan of a gallery into another one, of any engine."""
    from itertools import islice

    from sonoseek.apps.cli.show import progress_bar
    from sonoseek.gallery import AddResult, create_gallery, open_gallery

    with (
        open_gallery(gallery) as source,
        create_gallery(
            to,
            bundle_id=source.bundle_id,
            dimension=source.dimension,
            duplicate_threshold=source.duplicate_threshold,
            exist_ok=True,
        ) as target,
        progress_bar("copy") as on_progress,
    ):
        total, result = source.count(), AddResult()
        if source.site_key is not None:
            target.store_site_key(source.site_key)
        waiting = iter(source)
        while entries := list(islice(waiting, COPIED)):
            result += target.add(entries)
            on_progress(result.added + result.updated + result.unchanged, total)
        target.refresh()
        count = target.count()
    typer.echo(
        f"{gallery} -> {to}: {result.added} added, {result.updated} updated, {result.unchanged} unchanged; "
        f"{count} scans"
    )


@app.command()
def rekey(gallery: Gallery) -> None:
    """Replace pseudonyms from before there was a site key by keyed ones; the sources are not read."""
    from sonoseek.gallery import open_gallery
    from sonoseek.gallery.pseudonyms import rekey as rekey_gallery

    with open_gallery(gallery, mode="w") as target:
        changed = rekey_gallery(target)
        if not changed:
            raise GalleryError(
                f"{gallery} has no pseudonyms from before there was a site key; there is nothing to replace."
            )
        target.optimise()  # so that no free page and no log holds the old ones
        typer.echo(f"{gallery}: the pseudonyms of {changed} cases are made with the site key {target.site_key}")


@app.command()
def optimise(gallery: Gallery) -> None:
    """Compact the file and rebuild the search cache."""
    from sonoseek.gallery import open_gallery

    with open_gallery(gallery, mode="w") as target:
        before = target.info().bytes
        target.optimise()
        info = target.info()
    typer.echo(f"{gallery}: {before / 2**20:.1f} MiB -> {info.bytes / 2**20:.1f} MiB; searched {info.index}")
