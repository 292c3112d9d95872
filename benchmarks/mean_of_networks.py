"""AUROC of networks in hospitals left out, alone and as the mean of their logits, from the rows of an evaluation.

    python benchmarks/mean_of_networks.py docs/results/leave-one-hospital-out b4-frozen:1 b4-frozen:2
    python benchmarks/mean_of_networks.py runs/trial/leave-one-hospital-out b4-frozen:2 distilled:2 --weights 2,1

A network is a system and a seed of its rows. Malignant against benign, on scans with a lesion; logits are logarithms of
the calibrated probabilities.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sonoseek.evaluate.files import read_system
from sonoseek.evaluate.metrics import auroc
from sonoseek.evaluate.rows import ScanRow


def main() -> None:
    """Print a line for each network and one for their mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of the protocol")
    parser.add_argument("networks", nargs="+", metavar="SYSTEM:SEED")
    parser.add_argument("--weights", help="of the networks in the mean, such as 2,1; equal by default")
    options = parser.parse_args()
    weights = [float(part) for part in options.weights.split(",")] if options.weights else [1.0] * len(options.networks)
    scores = [read_scores(options.results, name) for name in options.networks]
    mean = {scan: sum(w * each[scan] for w, each in zip(weights, scores, strict=True)) for scan in scores[0]}
    labels = read_labels(options.results, options.networks[0])
    for name, score in zip([*options.networks, "mean of logits"], [*scores, mean], strict=True):
        areas = hospital_areas(score, labels)
        each = ", ".join(f"{hospital} {area:.4f}" for hospital, area in areas.items())
        print(f"{name}: {each}; mean {np.mean([*areas.values()]):.4f}")


def read_scores(results: Path, network: str) -> dict[str, float]:
    """Scan → log odds of malignant against benign, of the scans with a lesion."""
    return {row.scan: _log_odds(row) for row in _rows(results, network)}


def read_labels(results: Path, network: str) -> dict[str, bool]:
    """Scan → whether it is malignant, of the scans with a lesion."""
    return {row.scan: row.label == "malignant" for row in _rows(results, network)}


def hospital_areas(scores: dict[str, float], labels: dict[str, bool]) -> dict[str, float]:
    """Hospital → AUROC."""
    areas = {}
    for hospital in sorted({scan.split("/")[0] for scan in scores}):
        own = [scan for scan in scores if scan.split("/")[0] == hospital]
        score, positive = np.array([scores[scan] for scan in own]), np.array([labels[scan] for scan in own])
        areas[hospital] = float(auroc(score, positive, np.ones((1, len(own))))[0])
    return areas


def _rows(results: Path, network: str) -> list[ScanRow]:
    system, _, seed = network.rpartition(":")
    rows = read_system(results, system).predictions
    return [row for row in rows if row.seed == int(seed) and row.label != "normal"]


def _log_odds(row: ScanRow) -> float:
    _, benign, malignant = np.log(np.maximum(row.probabilities, 1e-12))
    return float(malignant - benign)


if __name__ == "__main__":
    main()
