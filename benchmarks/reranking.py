"""Whether re-ranking the first hundred matches by late interaction on evidence cells pays, in hospitals left out.

    python benchmarks/reranking.py runs/leave-one-hospital-out/b4-frozen --seed 1

Takes the bundles that `sonoseek evaluate --protocol leave-one-hospital-out` left in the rounds of one seed. For each
query the hundred nearest by cosine are ranked again by cosine + weight · late interaction, where the late interaction
of two scans is, over the `CELLS` cells of largest evidence of one, the mean of the largest cosine with such a cell of
the other, weighted by the length of the evidence, and both ways averaged (as ColBERT, Khattab & Zaharia 2020,
doi:10.1145/3397271.3401075). Prints precision at 5 per hospital, with the others' gallery and with the hospital's own
archive without the query's patient, and the paired difference to the cosine alone with its 95 % interval by patients.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Settings
from sonoseek.core.arrays import unit_rows
from sonoseek.encoder import Encoder, encode_scan, load_bundle, open_encoder
from sonoseek.evaluate import PROTOCOLS, open_context
from sonoseek.evaluate.bootstrap import group_weights, interval
from sonoseek.evaluate.systems.base import LabelledScan

CELLS = 32
"""Cells kept of each scan."""
FIRST = 100
"""Matches that are ranked again."""
DEPTH = 5
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSide:
    """Scans of one side.

    Attributes:
        units: float32 (n, D), embeddings of length 1.
        cells: float32 (n, CELLS, D), evidence vectors of length 1, the largest first.
        lengths: float32 (n, CELLS), of the evidence before; they sum to 1 per scan.
        labels: (n,) class names. groups: int64 (n,), of scans that must not be matches of each other.
    """

    units: NDArray[np.float32]
    cells: NDArray[np.float32]
    lengths: NDArray[np.float32]
    labels: NDArray[np.str_]
    groups: NDArray[np.int64]


def encode_side(
    encoder: Encoder, samples: Sequence[LabelledScan], groups: Mapping[str, int], *, cells: int
) -> EncodedSide:
    """Encode scans and keep the cells of largest evidence."""
    embeddings, kept, lengths = [], [], []
    for number, sample in enumerate(samples):
        _, encoding = encode_scan(encoder, sample.scan)
        evidence = encoding.evidence[0].reshape(encoding.evidence.shape[1], -1).T
        length = np.linalg.norm(evidence, axis=1)
        largest = np.argsort(-length, kind="stable")[:cells]
        embeddings.append(encoding.embedding[0])
        kept.append(unit_rows(evidence[largest]))
        lengths.append(length[largest] / max(float(length[largest].sum()), 1e-12))
        if number % 200 == 0:
            print(f"  encoded {number} of {len(samples)}", flush=True)
    return EncodedSide(
        units=unit_rows(np.stack(embeddings)),
        cells=np.stack(kept),
        lengths=np.stack(lengths).astype(np.float32),
        labels=np.array([sample.record.pathology for sample in samples]),
        groups=np.array([groups[sample.name] for sample in samples]),
    )


def late_interaction(
    cells: NDArray[np.float32],
    lengths: NDArray[np.float32],
    others: NDArray[np.float32],
    other_lengths: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Of one scan's cells (c, D) with those of m others (m, c, D): (m,), −1 … 1, symmetric."""
    cosines = np.einsum("id,mjd->mij", cells, others, optimize=True)
    forth = (cosines.max(axis=2) * lengths).sum(axis=1)
    back = (cosines.max(axis=1) * other_lengths).sum(axis=1)
    return ((forth + back) / 2).astype(np.float32)


def precisions(queries: EncodedSide, gallery: EncodedSide, *, weights: Sequence[float]) -> NDArray[np.float64]:
    """Precision at `DEPTH` of each query (n, 1 + weights): by the cosine alone, then re-ranked with each weight."""
    cosines = queries.units @ gallery.units.T
    rows = np.zeros((len(queries.units), 1 + len(weights)))
    for i, similar in enumerate(cosines):
        allowed = np.flatnonzero(gallery.groups != queries.groups[i])
        first = allowed[np.argsort(-similar[allowed], kind="stable")[:FIRST]]
        right = gallery.labels[first] == queries.labels[i]
        late = late_interaction(queries.cells[i], queries.lengths[i], gallery.cells[first], gallery.lengths[first])
        for column, weight in enumerate((0.0, *weights)):
            order = np.argsort(-(similar[first] + weight * late), kind="stable")[:DEPTH]
            rows[i, column] = right[order].mean()
    return rows


def differences(rows: NDArray[np.float64], groups: NDArray[np.int64]) -> list[tuple[float, float, float]]:
    """Mean difference of each re-ranking to the cosine alone, and its interval by groups."""
    names, member = np.unique(groups, return_inverse=True)
    draws = group_weights(len(names))
    sizes = draws @ np.bincount(member)
    found = []
    for column in range(1, rows.shape[1]):
        own = rows[:, column] - rows[:, 0]
        low, high = interval(draws @ np.bincount(member, weights=own) / sizes)
        found.append((float(own.mean()), low, high))
    return found


def main() -> None:
    """Print two lines per hospital."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rounds", type=Path, help="folder of a system under the protocol's runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=None, help="folder with the datasets; SONOSEEK_DATA by default")
    parser.add_argument("--cells", type=int, default=CELLS)
    options = parser.parse_args()
    context = open_context(
        PROTOCOLS.load("leave-one-hospital-out")(),
        data_root=options.data or Settings.from_environment().data,
        cache=options.rounds.parents[1] / "near-duplicates",
        seeds=[options.seed],
    )
    print(f"weights of the late interaction: {', '.join(map(str, WEIGHTS))}")
    for round_ in context.rounds:
        folder = options.rounds / round_.label / "training" / "bundle"
        if not folder.is_dir():
            print(f"{round_.label}: no bundle in {folder}; evaluate the system first")
            continue
        encoder = open_encoder(load_bundle(folder), threads=1)
        gallery, test = context.samples(round_.gallery), context.samples(round_.test)
        groups = context.group_number_of([*gallery, *test])
        sides = [encode_side(encoder, side, groups, cells=options.cells) for side in (gallery, test)]
        (hospital,) = round_.test
        for name, side in (("others' gallery", sides[0]), ("own archive", sides[1])):
            rows = precisions(sides[1], side, weights=WEIGHTS)
            found = "; ".join(f"{d:+.4f} ({lo:+.4f} to {hi:+.4f})" for d, lo, hi in differences(rows, sides[1].groups))
            print(f"{hospital}, {name}: P@5 by the cosine {rows[:, 0].mean():.4f}; re-ranked {found}", flush=True)


if __name__ == "__main__":
    main()
