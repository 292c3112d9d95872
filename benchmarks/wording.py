"""What reports say of cancers: headlines and disagreement notes over BUSI and BUS-BRA, each queried in the other.

    .venv/bin/python benchmarks/wording.py --data $SONOSEEK_DATA

Writes `docs/results/wording.json` and `docs/results/wording.md`. The bundle that ships has learnt from both archives,
so its predictions are better than on new scans: the wording is measured here, not how good the network is.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from sonoseek.apps.cli.show import progress_bar
from sonoseek.core import PATHOLOGIES, Report
from sonoseek.datasets import Dataset, open_dataset
from sonoseek.encoder import Encoder, open_encoder
from sonoseek.engine import SearchEngine
from sonoseek.gallery import create_gallery
from sonoseek.indexing.build import build_index
from sonoseek.reports import phrases

RESULTS = Path(__file__).parent.parent / "docs" / "results"
K = 10


def codes(report: Report) -> set[str]:
    """Kinds of a report's warnings."""
    return {warning.code for warning in report.warnings}


def reads_as_benign(report: Report) -> bool:
    """Whether the first sentence states no likelihood held against the threshold, or hides that it is above."""
    prediction = report.prediction
    headline = phrases.headline(prediction)
    if prediction.out_of_distribution or prediction.likeliest == "malignant":
        return False
    stated = "Likelihood of malignancy" in headline and "98 %-sensitivity threshold" in headline
    return not stated or (prediction.not_ruled_out and "malignancy is not ruled out" not in headline)


def describe(engine: SearchEngine, scan: Any, label: str) -> dict[str, Any]:
    """One scan: what stands over it, without and with each filter."""
    reading = engine.read(scan)
    report = engine.query(reading, k=K, explain_matches=False)
    prediction, said = report.prediction, codes(report)
    filtered = [
        codes(engine.query(reading, k=K, where=f"label = '{name}'", explain_matches=False)) for name in PATHOLOGIES
    ]
    return {
        "label": label,
        "likelihood": round(prediction.likelihood_of_malignancy or 0.0, 4),
        "likeliest": prediction.likeliest,
        "above": prediction.not_ruled_out,
        "out_of_distribution": prediction.out_of_distribution,
        "not_in_set": "malignant" not in prediction.prediction_set,
        "reads_as_benign": reads_as_benign(report),
        "near": "near_threshold" in said,
        "disagreement": "disagreement" in said,
        "seen": "seen_in_training" in said,
        "changed_by_a_filter": sum(("disagreement" in each) != ("disagreement" in said) for each in filtered),
    }


def ask(asked: Dataset, archive: Dataset, encoder: Encoder, *, every: int) -> list[dict[str, Any]]:
    """Every scan of one dataset, queried in a gallery of another."""
    bundle = encoder.bundle
    with (
        tempfile.TemporaryDirectory(prefix="sonoseek-wording-") as scratch,
        create_gallery(
            Path(scratch) / "gallery",
            bundle_id=bundle.bundle_id,
            dimension=bundle.embedding_dim,
            duplicate_threshold=bundle.duplicate_threshold,
        ) as gallery,
    ):
        with progress_bar(f"archive of {archive.name}") as on_progress:
            build_index(archive, gallery, encoder, on_progress=on_progress)
        engine = SearchEngine(encoder, gallery)
        rows = []
        records = asked.records()[::every]
        with progress_bar(f"{asked.name} asked") as on_progress:
            for done, record in enumerate(records, start=1):
                scans = asked.load(record.case_id, masks=False).scans
                rows += [describe(engine, scan, record.pathology) for scan in scans]
                on_progress(done, len(records))
        return rows


def counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    """The table's figures."""
    cancers = [row for row in rows if row["label"] == "malignant"]
    below = [row for row in cancers if not row["above"] and not row["out_of_distribution"]]
    benign = [row for row in cancers if row["likeliest"] != "malignant" and row["above"]]
    return {
        "scans": len(rows),
        "cancers": len(cancers),
        "cancers whose headline reads as benign without the threshold": sum(r["reads_as_benign"] for r in cancers),
        "cancers outside the prediction set (called excluded before)": sum(r["not_in_set"] for r in cancers),
        "of these, above the 98 %-sensitivity threshold": sum(r["not_in_set"] and r["above"] for r in cancers),
        "cancers with another likeliest class, above the threshold: not ruled out is the first line": len(benign),
        "cancers below the threshold, which the headline states": len(below),
        "of these, near the threshold, which is noted": sum(r["near"] for r in below),
        "cancers with a disagreement note": sum(r["disagreement"] for r in cancers),
        "of those below the threshold, with a disagreement note": sum(r["disagreement"] for r in below),
        "other scans with a disagreement note": sum(r["disagreement"] for r in rows if r["label"] != "malignant"),
        "disagreement notes that a filter makes or hides (three filters a scan)": sum(
            r["changed_by_a_filter"] for r in rows
        ),
        "scans that are reported to be in the training data": sum(r["seen"] for r in rows),
    }


def page(figures: dict[str, dict[str, int]], bundle_id: str) -> str:
    """The results as Markdown."""
    names = list(figures)

    def total(start: str) -> int:
        return sum(count for each in figures.values() for row, count in each.items() if row.startswith(start))

    lines = [
        "# What reports say of cancers",
        "",
        f"Of {sum(each['cancers'] for each in figures.values()):,} cancers "
        f"{total('cancers whose headline reads as benign'):,} have a headline that reads as benign without the "
        f"threshold; filters make or hide {total('disagreement notes that a filter')} disagreement notes.",
        "Every scan of one archive is a query to a gallery of the other, ten similar cases each.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
    ]
    rows = next(iter(figures.values()))
    lines += [f"| {row} | {' | '.join(f'{figures[name][row]:,}' for name in names)} |" for row in rows]
    lines += [
        "",
        f"Bundle `{bundle_id}`, which has learnt from both archives: the wording is measured here, not how good the "
        "network is.",
        "Rows: `wording.json`. Command: `make wording` (`benchmarks/wording.py`).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SONOSEEK_DATA", "data")))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--every", type=int, default=1, help="Ask every n-th case alone.")
    given = parser.parse_args()
    encoder = open_encoder(threads=1)
    sets = {name: open_dataset(name, given.data / name) for name in ("busi", "busbra")}
    figures = {}
    for asked, archive in (("busi", "busbra"), ("busbra", "busi")):
        rows = ask(sets[asked], sets[archive], encoder, every=given.every)
        figures[f"{asked} queried in {archive}"] = counted(rows)
    written = {"bundle_id": encoder.bundle.bundle_id, "k": K, "every": given.every, "figures": figures}
    (given.out / "wording.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    (given.out / "wording.md").write_text(page(figures, encoder.bundle.bundle_id), encoding="utf-8")
    print((given.out / "wording.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
