"""What burned-in marks give away on BUSI: frozen ImageNet features with and without the removal of marks.

    .venv/bin/python benchmarks/annotation_leakage.py --data $SONOSEEK_DATA --weights $SONOSEEK_WEIGHTS

SqueezeNet's features, averaged over the scan, and a logistic regression; five folds that never part a group. The
network learns nothing from BUSI: what differs between the rows is what it is shown. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import avg_pool2d

from sonoseek.core import PATHOLOGIES
from sonoseek.datasets import stratified_group_folds
from sonoseek.encoder.canvas_input import canvas_to_input
from sonoseek.networks.squeezenet import SqueezeNetBackbone
from sonoseek.networks.start_weights import load_start_weights
from sonoseek.preprocessing import PreprocessingRecipe
from sonoseek.training.prepare import PreparedSet, open_choice, prepare
from sonoseek.training.recipe import DatasetChoice

RECIPES = {
    "preprocessed": PreprocessingRecipe(),
    "marks left in": PreprocessingRecipe(marks=False),
    "as the file is": PreprocessingRecipe(borders=False, marks=False, contrast="none"),
}


def features(backbone: SqueezeNetBackbone, scans: PreparedSet) -> np.ndarray:
    """(N, 512): the mean over the cells that hold scan."""
    rows = []
    with torch.inference_mode():
        for canvas, content in zip(scans.canvases, scans.contents, strict=True):
            top, left, bottom, right = map(int, content)
            x = torch.from_numpy(canvas_to_input(canvas, top=top, left=left, bottom=bottom, right=right))[None]
            share = avg_pool2d((x >= 0).float(), backbone.stride)
            found = backbone(x.clamp(min=0))
            rows.append(((found * share).sum((2, 3)) / share.sum((2, 3)))[0].numpy())
    return np.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    given = parser.parse_args()
    backbone = SqueezeNetBackbone().eval()
    backbone.load_start(load_start_weights(given.weights / "squeezenet1.1_gluon.safetensors"))
    dataset = open_choice(DatasetChoice(name="busi"), data_root=given.data)
    folds = stratified_group_folds(dataset.records(), folds=5, seed=0)
    print("| shown | accuracy | malignant AUROC | normal AUROC |\n|---|---|---|---|")
    for name, recipe in RECIPES.items():
        with tempfile.TemporaryDirectory() as cache:
            scans = prepare(dataset, recipe=recipe, cache=Path(cache))
        x, probabilities, accuracy = features(backbone, scans), np.zeros((len(scans.labels), len(PATHOLOGIES))), []
        for fold in folds:
            train, test = scans.rows(fold.train), scans.rows(fold.test)
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
            probabilities[test] = model.fit(x[train], scans.labels[train]).predict_proba(x[test])
            accuracy.append(np.mean(probabilities[test].argmax(1) == scans.labels[test]))
        aurocs = [roc_auc_score(scans.labels == c, probabilities[:, c]) for c in (2, 0)]
        print(
            f"| {name} | {np.mean(accuracy):.3f} ± {np.std(accuracy, ddof=1):.3f} | {aurocs[0]:.3f} | {aurocs[1]:.3f} |"
        )


if __name__ == "__main__":
    main()
