"""`sonoseek bench`: how fast queries and index builds are on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from sonoseek.apps.cli.options import Bundle

PHANTOMS = 240

app = typer.Typer(help="How fast queries and index builds are here.", no_args_is_help=True)

Dataset = Annotated[str, typer.Option(help="Dataset to time on; see `data list`.")]
Data = Annotated[Path | None, typer.Option(help="Where the dataset lies; none for `phantom`.")]


@app.command()
def query(
    dataset: Dataset = "phantom",
    data: Data = None,
    bundle: Bundle = None,
    scans: Annotated[int, typer.Option(min=1, help="Number of different query scans.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions of each query.")] = 10,
    archive: Annotated[int, typer.Option(min=1, help="Most cases in the gallery.")] = 800,
) -> None:
    """Time import, a cold query, and warm queries against the network alone."""
    from PIL import Image

    from sonoseek.apps.cli.show import progress_bar, table
    from sonoseek.datasets import Subset, open_dataset
    from sonoseek.encoder import open_encoder
    from sonoseek.engine import open_engine
    from sonoseek.evaluate.speed import measure_cold, measure_import, measure_query
    from sonoseek.gallery import create_gallery
    from sonoseek.indexing.build import build_index

    source = open_dataset(dataset, data)
    records = source.records()
    records = records[:: max(1, len(records) // archive)][:archive]
    encoder = open_encoder(bundle, threads=1)
    network = encoder.bundle
    with tempfile.TemporaryDirectory(prefix="sonoseek-bench-") as scratch:
        gallery = Path(scratch) / "gallery"
        with (
            create_gallery(
                gallery,
                bundle_id=network.bundle_id,
                dimension=network.embedding_dim,
                duplicate_threshold=network.duplicate_threshold,
            ) as target,
            progress_bar("gallery") as on_progress,
        ):
            build_index(Subset(source, [r.case_id for r in records]), target, encoder, on_progress=on_progress)
        query_scans = [source.load(r.case_id).scans[0] for r in records[:: max(1, len(records) // scans)][:scans]]
        speed = measure_query(open_engine(gallery, bundle=bundle), query_scans, rounds=rounds)
        file = Path(scratch) / "scan.png"
        Image.fromarray(query_scans[0].pixels).save(file)
        options = ["--bundle", str(bundle)] if bundle else []
        cold = measure_cold(["query", str(file), "--gallery", str(gallery), "-k", "5", "--format", "json", *options])
    table(
        ("", "measured", "target"),
        [
            ("import sonoseek", f"{measure_import():.3f} s", "< 0.3 s"),
            ("query from cold (new process, json)", f"{cold:.2f} s", "< 2 s"),
            ("network alone", f"{speed.network_ms:.1f} ms", ""),
            ("warm query: preprocessing, network, search, heatmap", f"{speed.warm_ms:.1f} ms", ""),
            ("warm query / network", f"{speed.ratio:.2f}", "< 1.5"),
        ],
        title=f"{speed.scans} scans × {speed.rounds} rounds, {len(records)} cases of {source.name}",
    )


@app.command()
def ingest(dataset: Dataset = "phantom", data: Data = None, bundle: Bundle = None) -> None:
    """Time an index build against the network alone."""
    from sonoseek.apps.cli.data import write_phantoms
    from sonoseek.apps.cli.show import progress_bar, table
    from sonoseek.datasets import open_dataset
    from sonoseek.encoder import load_bundle
    from sonoseek.evaluate.speed import measure_ingest

    with tempfile.TemporaryDirectory(prefix="sonoseek-bench-") as scratch:
        if dataset == "phantom":  # drawing them would take longer than all else: they are written first
            data, dataset = Path(scratch) / "phantoms", "folder"
            with progress_bar("phantoms") as on_progress:
                write_phantoms(data, count=PHANTOMS, seed=0, on_progress=on_progress)
        source = open_dataset(dataset, data)
        with progress_bar(f"index {source.name}") as on_progress:
            speed = measure_ingest(source, load_bundle(bundle), on_progress=on_progress)
    table(
        ("", "measured", "target"),
        [
            ("network alone, encoder as opened (batches, all cores)", f"{speed.network_per_s:.1f} scans/s", ""),
            ("network alone, fastest setting (or one run per core)", f"{speed.fastest_per_s:.1f} scans/s", ""),
            ("index build", f"{speed.build_per_s:.1f} scans/s", ""),
            ("build / network, encoder as opened", f"{speed.ratio:.2f}", "≥ 0.9"),
            ("build / network, fastest setting", f"{speed.ratio_to_fastest:.2f}", "≥ 0.9"),
        ],
        title=f"{speed.scans} scans of {source.name}, {speed.refused} refused",
    )
