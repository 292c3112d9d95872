"""What an archive's own cases could teach: AUROC of a bundle, and of a regression on its embeddings learnt there.

    python benchmarks/own_archive_head.py fast --dataset bus-uc --root bus_uc --data /data

The bundle must not have learnt from the archive. The regression (standardised embeddings, logistic, C 0.01, classes
balanced) is learnt on four fifths of the archive's groups and scored on the rest, three times over; the scans of one
group or patient never part. Malignant against benign. Where even this is low, the archive's lesions do not look like
their reference standard to such a network, and no other hospital's cases will mend it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sonoseek.datasets import components, open_dataset
from sonoseek.encoder import encode_scan, load_bundle, open_encoder
from sonoseek.encoder.bundle import bundle_folder

FOLDS, REPEATS, C = 5, 3, 0.01


def own_areas(embeddings: NDArray[np.float32], malignant: NDArray[np.bool_], groups: NDArray[np.int64]) -> list[float]:
    """AUROC of the regression in each repeat: embeddings (n, D), labels (n,), groups (n,)."""
    areas = []
    for seed in range(REPEATS):
        scores = np.zeros(len(malignant))
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(embeddings, malignant, groups)
        for train, test in folds:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000, class_weight="balanced"))
            scores[test] = model.fit(embeddings[train], malignant[train]).decision_function(embeddings[test])
        areas.append(float(roc_auc_score(malignant, scores)))
    return areas


def main() -> None:
    """Print two lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a shipped bundle's name, or a folder")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", default="", help="its folder under --data; by default its name")
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    encoder = open_encoder(load_bundle(bundle_folder(options.bundle)))
    classes = encoder.bundle.classes
    dataset = open_dataset(options.dataset, options.data / (options.root or options.dataset))
    records = [record for record in dataset.records() if record.pathology != "normal"]
    group_of = {case_id: number for number, group in enumerate(components(records)) for case_id in group}
    embeddings, logits, labels, groups = [], [], [], []
    for record in records:
        for scan in dataset.load(record.case_id, masks=False).scans:
            _, encoding = encode_scan(encoder, scan)
            embeddings.append(encoding.embedding[0])
            logits.append(encoding.logits[0, classes.index("malignant")] - encoding.logits[0, classes.index("benign")])
            labels.append(record.pathology == "malignant")
            groups.append(group_of[record.case_id])
    malignant = np.array(labels)
    own = own_areas(np.stack(embeddings), malignant, np.array(groups))
    each = ", ".join(f"{area:.3f}" for area in own)
    before = roc_auc_score(malignant, logits)
    print(f"{options.dataset}, {len(malignant)} scans: {encoder.bundle.bundle_id} {before:.3f}")
    print(f"learnt on the archive's other groups: {np.mean(own):.3f} ({each})")


if __name__ == "__main__":
    main()
