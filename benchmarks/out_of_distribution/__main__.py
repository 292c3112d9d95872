"""Out-of-distribution scores compared: share of drawn images refused, and of in-distribution scans, by each score.

    .venv/bin/python -m benchmarks.out_of_distribution --data $SONOSEEK_DATA [--bundle BUNDLE]

Every score is fitted on scans that the bundle has learnt from, and its border set to 99 % of others. Where the bundle
has left groups of a dataset unlearnt (a fold's bundle), one half of those sets the border and the other half is judged.
Where it has learnt from all (the bundle that ships), the border and the judged scans are learnt ones that the *scores*
were not fitted on: optimistic, marked so. A dataset that it has learnt nothing from is another hospital: judged only.
Phantoms that it has learnt from are fitted on too; those that are judged are new to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from benchmarks.out_of_distribution.drawings import OOD_KINDS, draw_ood_image
from sonoseek import Scan, load_bundle, open_dataset
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.datasets.splits import components
from sonoseek.encoder import Encoder, encode_scan, ood_score, open_encoder
from sonoseek.encoder.ood import distances
from sonoseek.evaluate.ood import LEVEL, fit_ood_model

NEW_PHANTOMS = 31
"""Seed of an archive that no bundle has learnt from."""


@dataclass
class Outputs:
    """Outputs of a network for n images: embeddings (n, D), logits (n, C), mean evidence energy per cell (n,)."""

    embeddings: np.ndarray
    logits: np.ndarray
    energy: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Outputs:
        return Outputs(self.embeddings[rows], self.logits[rows], self.energy[rows])


Score = Callable[[Outputs], np.ndarray]


def joined(parts: Iterable[Outputs]) -> Outputs:
    parts = list(parts)
    return Outputs(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("embeddings", "logits", "energy")))


def read(encoder: Encoder, pictures: Iterable[np.ndarray]) -> Outputs:
    def one(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        _, encoding = encode_scan(encoder, Scan(pixels=pixels))
        return encoding.embedding[0], encoding.logits[0], float(np.linalg.norm(encoding.evidence[0], axis=0).mean())

    with ThreadPoolExecutor(2) as pool:
        embeddings, logits, energy = zip(*pool.map(one, pictures), strict=True)
    return Outputs(np.stack(embeddings).astype(float), np.stack(logits).astype(float), np.array(energy))


def unit(values: np.ndarray) -> np.ndarray:
    units: np.ndarray = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    return units


def nearest(points: np.ndarray, k: int) -> Score:
    return lambda r: 1 - np.sort(unit(r.embeddings) @ points.T, axis=1)[:, -k]


def farthest_points(values: np.ndarray, count: int) -> np.ndarray:
    picked, away = [0], 1 - values @ values[0]
    while len(picked) < min(count, len(values)):
        picked.append(int(away.argmax()))
        away = np.minimum(away, 1 - values @ values[picked[-1]])
    return values[picked]


def per_class(values: np.ndarray, labels: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray]) -> Score:
    values = prepare(values)
    means = {c: values[labels == c].mean(0) for c in np.unique(labels)}
    rest = np.concatenate([values[labels == c] - mean for c, mean in means.items()])
    precision = LedoitWolf(assume_centered=True).fit(rest).precision_

    def score(r: Outputs) -> np.ndarray:
        away = [prepare(r.embeddings) - mean for mean in means.values()]
        return np.asarray(np.min([np.einsum("nd,de,ne->n", each, precision, each) for each in away], axis=0))

    return score


def scores(learnt: Outputs, labels: np.ndarray, border: Outputs) -> dict[str, Score]:
    units = unit(learnt.embeddings)
    prototypes = unit(KMeans(min(256, len(units)), n_init=1, random_state=0).fit(units).cluster_centers_)
    novelty = fit_ood_model(learnt.embeddings, border.embeddings)
    return {
        "one Gaussian, unit length (used)": lambda r: distances(novelty, r.embeddings),
        "Gaussian per class, unit length": per_class(learnt.embeddings, labels, unit),
        "Gaussian per class, any length": per_class(learnt.embeddings, labels, lambda v: v),
        "cosine to the nearest": nearest(units, 1),
        "cosine to the 5th nearest": nearest(units, 5),
        "cosine to 256 means (k-means)": nearest(prototypes, 1),
        "cosine to 256 farthest points": nearest(farthest_points(units, 256), 1),
        "short embedding": lambda r: -np.linalg.norm(r.embeddings, axis=1),
        "long embedding": lambda r: np.linalg.norm(r.embeddings, axis=1),
        "low largest logit": lambda r: -r.logits.max(1),
        "low log-sum-exp of logits": lambda r: -np.log(np.exp(r.logits).sum(1)),
        "low evidence energy": lambda r: -r.energy,
    }


def in_distribution_scans(
    encoder: Encoder, data: Path, *, every: int
) -> tuple[Outputs, np.ndarray, Outputs, dict[str, Outputs]]:
    """(learnt, their labels, border, judged by name)."""
    cases = encoder.bundle.training.get("cases", {})
    learnt, labels, border, judged = [], [], [], {}
    for name in ("busi", "busbra"):
        dataset = open_dataset(name, data / name)
        records = dataset.records()[:: every if name == "busbra" else 1]
        encoded = read(encoder, (dataset.load(r.case_id, masks=False).scans[0].pixels for r in records))
        known = np.array([r.case_id in set(cases.get(name, ())) for r in records])
        if not known.any():
            judged[f"{name}, another hospital"] = encoded
            continue
        group = {case: number for number, ids in enumerate(components(records)) for case in ids}
        drawn = np.random.default_rng(0).random(len(group))
        share = np.array([drawn[group[r.case_id]] for r in records])
        if known.all():
            sides, title = (share < 0.15, (share >= 0.15) & (share < 0.3)), f"{name}, learnt by the network: optimistic"
            known = share >= 0.3
        else:
            sides, title = (~known & (share < 0.5), ~known & (share >= 0.5)), f"{name}, unseen"
        learnt.append(encoded[known])
        labels += [r.pathology for r, is_known in zip(records, known, strict=True) if is_known]
        border.append(encoded[sides[0]])
        judged[title] = encoded[sides[1]]
    if known_phantoms := sorted(cases.get("phantom", ())):
        seed = int(known_phantoms[0].split("-")[1]) // 1_000_000
        archive = PhantomDataset(count=len(known_phantoms), seed=seed)
        records = tuple(r for r in archive.records()[::2] if r.case_id in known_phantoms)
        learnt.append(read(encoder, (archive.load(r.case_id).scans[0].pixels for r in records)))
        labels += [r.pathology for r in records]
    return joined(learnt), np.array(labels), joined(border), judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="another than the one that ships")
    parser.add_argument("--data", type=Path, required=True, help="folder with busi and busbra")
    parser.add_argument("--every", type=int, default=2, help="take every n-th scan of BUS-BRA")
    parser.add_argument("--count", type=int, default=50, help="drawn images of each kind")
    given = parser.parse_args()
    encoder = open_encoder(load_bundle(given.bundle), threads=1)
    learnt, labels, border, judged = in_distribution_scans(encoder, given.data, every=given.every)
    phantoms = PhantomDataset(count=150, seed=NEW_PHANTOMS)
    judged["new phantoms"] = read(encoder, (phantoms.load(r.case_id).scans[0].pixels for r in phantoms.records()))
    kinds = {kind: read(encoder, (draw_ood_image(kind, s) for s in range(given.count))) for kind in OOD_KINDS}
    for name in ("busi", "busbra"):
        dataset = open_dataset(name, given.data / name)
        pixels = [dataset.load(r.case_id, masks=False).scans[0].pixels for r in dataset.records()[::13]]
        kinds[f"{name} inverted"] = read(encoder, (255 - each for each in pixels))
        kinds[f"{name} upside down"] = read(encoder, (np.ascontiguousarray(each[::-1]) for each in pixels))
    counts = {name: len(r.logits) for name, r in judged.items()}
    print(f"bundle {encoder.bundle.bundle_id}: fitted on {len(labels)} learnt scans, border by {len(border.logits)}")
    print(f"judged: {counts}; {given.count} drawn images of each of {len(OOD_KINDS)} kinds\n")
    fitted = scores(learnt, labels, border)
    drawn = joined(kinds[kind] for kind in OOD_KINDS)
    near = joined(r for name, r in judged.items() if "busi" in name or "optimistic" in name)
    print("| score | AUROC | drawn images refused |", " | ".join(judged), "|")
    print("|---|---|---|" + "---|" * len(judged))
    refused_by_kind: dict[str, float] = {}
    for number, (name, score) in enumerate(fitted.items()):
        ordered = np.sort(score(border))
        limit = ordered[min(len(ordered), int(np.ceil((len(ordered) + 1) * LEVEL))) - 1]
        inside, outside = (np.minimum(score(each), 1e9) for each in (near, drawn))
        truth = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
        cells = [f"{np.mean(score(r) > limit):.1%}" for r in judged.values()]
        auroc = roc_auc_score(truth, np.r_[inside, outside])
        print(f"| {name} | {auroc:.3f} | {np.mean(outside > limit):.1%} |", " | ".join(cells), "|")
        if number == 0:
            refused_by_kind = {kind: float(np.mean(score(r) > limit)) for kind, r in kinds.items()}
    print("\n| kind | refused by the score that is used |" + (" by the bundle itself |" if encoder.bundle.ood else ""))
    print("|---|---|" + ("---|" if encoder.bundle.ood else ""))
    for kind, share in refused_by_kind.items():
        own = [ood_score(encoder.bundle, each) or 0.0 for each in kinds[kind].embeddings]
        print(f"| {kind} | {share:.0%} |", f"{np.mean(np.array(own) > 1):.0%} |" if encoder.bundle.ood else "")


if __name__ == "__main__":
    main()
