"""`sonoseek demo`: the main job from end to end."""

from __future__ import annotations

import sys
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sonoseek.apps.cli.options import Bundle
from sonoseek.core import CaseRecord, InvalidValueError

QUERY_SEED = 90_001
"""Query phantoms come from another seed than those of the archive: none of them is in it."""


IDLE_S = 45.0
"""Without a terminal nobody can press Ctrl+C."""


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for gallery and reports.")] = Path("demo"),
    data: Annotated[Path | None, typer.Option(help="A real dataset's folder instead of phantoms.")] = None,
    dataset: Annotated[str, typer.Option(help="Which dataset --data holds.")] = "busi",
    count: Annotated[int, typer.Option(min=20, help="Phantoms in the archive.")] = 600,
    queries: Annotated[int, typer.Option(min=1, help="Number of query scans.")] = 10,
    k: Annotated[int, typer.Option("-k", min=1, help="Matches per report.")] = 10,
    bundle: Bundle = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    serve: Annotated[bool, typer.Option(help="Open the reading room at the end.")] = True,
    port: Annotated[int, typer.Option(help="Of the reading room; if it is taken, any that is free.")] = 8765,
) -> None:
    """Build an archive, query it, write a page of reports, and open the reading room on them.

    With phantoms the query scans are new. With --data they are the dataset's own; the scan itself, its group and its
    patient are never matches. The reading room stays open until Ctrl+C; without a terminal it stops when there was no
    request for 45 s.
    """
    from PIL import Image

    from sonoseek.apps.cli.show import progress_bar, refusals
    from sonoseek.core.files import make_private_folder
    from sonoseek.datasets import open_dataset
    from sonoseek.datasets.phantom import PhantomDataset
    from sonoseek.encoder import open_encoder
    from sonoseek.encoder.bundle import FAST_BUNDLE
    from sonoseek.engine import open_engine
    from sonoseek.gallery import create_gallery
    from sonoseek.indexing.build import build_index
    from sonoseek.reports import IndexEntry, write_index_page, write_report

    source = PhantomDataset(count=count, seed=0) if data is None else open_dataset(dataset, data)
    query_source = PhantomDataset(count=3 * queries, seed=QUERY_SEED) if data is None else source
    if bundle is None and data is None:
        bundle = FAST_BUNDLE  # its training data include phantoms
    encoder = open_encoder(bundle, threads=1)
    network = encoder.bundle
    gallery = out / f"gallery-{source.name}"
    with create_gallery(
        gallery,
        bundle_id=network.bundle_id,
        dimension=network.embedding_dim,
        duplicate_threshold=network.duplicate_threshold,
        exist_ok=True,
    ) as target:
        with progress_bar(f"archive of {source.name}") as on_progress:
            result = build_index(source, target, encoder, on_progress=on_progress)
        gallery_size = target.count()
        typer.echo(f"gallery: {gallery} ({gallery_size} scans)")
    refusals([(r.source, r.reason) for r in result.refused])
    engine = open_engine(gallery, bundle=bundle)
    entries, right = [], 0
    examples = out / "scans"
    make_private_folder(examples)
    bad = {refusal.source for refusal in result.refused}
    records = spread(tuple(r for r in query_source.records() if f"{r.dataset}/{r.case_id}" not in bad), queries)
    seen = set(encoder.bundle.training.get("cases", {}).get(query_source.name, ())) & {r.case_id for r in records}
    with progress_bar("queries", unit="reports") as on_progress:
        for done, record in enumerate(records, start=1):
            scan = query_source.load(record.case_id, masks=False).scans[0]
            Image.fromarray(scan.pixels).save(examples / f"{done:02d}-{record.pathology}.png")
            report = engine.query(scan, k=k)
            page = out / f"report-{done:02d}.html"
            write_report(report, page)
            entries.append(IndexEntry(title=record.case_id, truth=record.pathology, report=report, href=page.name))
            right += report.prediction.label == record.pathology
            on_progress(done, len(records))
    index = out / "index.html"
    title = f"{len(entries)} query scans, archive of {gallery_size} scans ({source.name})"
    if seen:
        title += f"; {len(seen)} of them are training scans of the network: no measure of its accuracy"
    write_index_page(entries, index, title=title)
    unsure = sum(entry.report.prediction.label is None for entry in entries)
    typer.echo(f"predictions: the class is the reference standard in {right} of {len(entries)}; {unsure} not sure")
    if seen:
        typer.echo(f"{len(seen)} of these scans are training scans of the network: this is no measure of its accuracy")
    typer.echo(f"reports: {index.resolve().as_uri()}")
    if serve:
        engine.close()
        _open_room(gallery, examples=examples, bundle=bundle, port=port, open_page=open_page)
    elif open_page:
        webbrowser.open(index.resolve().as_uri())


def _open_room(gallery: Path, *, examples: Path, bundle: Path | None, port: int, open_page: bool) -> None:
    """The reading room on the demo's archive."""
    from sonoseek.apps.cli.serve import run
    from sonoseek.apps.web.link_token import link_token
    from sonoseek.apps.web.server import listen
    from sonoseek.apps.web.settings import WebSettings

    state = gallery / "serve"
    settings = WebSettings(port=port, token=link_token(state), writable=True, examples=examples, state=state)
    try:
        listen(settings).close()
    except InvalidValueError:
        settings = replace(settings, port=0)
    run(
        str(gallery),
        settings=settings,
        show_token=True,
        bundle=bundle,
        open_page=open_page,
        quiet=True,
        idle=None if sys.stdout.isatty() else IDLE_S,
    )


def spread(items: tuple[CaseRecord, ...], count: int) -> tuple[CaseRecord, ...]:
    """`count` items, evenly over the sequence."""
    step = max(1, len(items) // count)
    return items[::step][:count]
