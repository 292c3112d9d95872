"""What is left of a bundle in another hospital: verdicts on BUS-BRA by bundles that have only seen BUSI.

    .venv/bin/python benchmarks/another_hospital.py runs/busi-grouped/fold-*/bundle --data $SONOSEEK_DATA/busbra

BUS-BRA has no normal scans: malignant is scored against benign, by p(malignant) / (p(malignant) + p(benign)). A bundle
that was trained on BUS-BRA is refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from sonoseek import open_dataset, open_engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    dataset = open_dataset("busbra", given.data)
    records = dataset.records()
    malignant = np.array([record.pathology == "malignant" for record in records])
    rows = []
    for path in given.bundles:
        engine = open_engine(bundle=path)
        if "busbra" in engine.bundle.training["cases"]:
            raise SystemExit(f"{path} was trained on BUS-BRA; it proves nothing here. Give fold bundles of BUSI.")
        said = [
            engine.read(dataset.load(record.case_id, masks=False).scans[0]).prediction.probabilities
            for record in records
        ]
        score = np.array([p["malignant"] / (p["malignant"] + p["benign"]) for p in said])
        normal = np.mean([p["normal"] > max(p["benign"], p["malignant"]) for p in said])
        rows.append((roc_auc_score(malignant, score), balanced_accuracy_score(malignant, score > 0.5), normal))
        print(
            f"{path}: AUROC {rows[-1][0]:.3f}, balanced accuracy {rows[-1][1]:.3f}, called normal {normal:.3f}",
            flush=True,
        )
    mean, sd = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) if len(rows) > 1 else np.zeros(3)
    names = ("AUROC malignant against benign", "balanced accuracy", "called normal")
    for name, m, s in zip(names, mean, sd, strict=True):
        print(f"{name}: {m:.3f} ± {s:.3f}")


if __name__ == "__main__":
    main()
