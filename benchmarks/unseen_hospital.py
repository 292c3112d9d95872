"""How a run that is still under way does in a hospital that it does not learn from: one line per call.

    .venv/bin/python benchmarks/unseen_hospital.py runs/b4 --dataset bus-uc --root bus_uc --data /data [--every 2]

Reads the running mean of the weights from the run's last checkpoint, so that training need not stop, and the scan and
its mirror image, as they are served. Prints step, scans seen, AUROC of malignant against benign, and P@5 in the
hospital's own archive with groups kept apart. For a learning curve, call it now and then. These figures may steer the
length of a training, never choose between networks: that is what `leave-one-hospital-out` is for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from sonoseek.core import PATHOLOGIES
from sonoseek.datasets import components, open_dataset
from sonoseek.evaluate.metrics import auroc
from sonoseek.networks.many_views import ManyViewNetwork
from sonoseek.training.batches import PlainBatches
from sonoseek.training.building import build_network, recipe_of
from sonoseek.training.prepare import PreparedSet, prepare
from sonoseek.training.recipe import DatasetChoice
from sonoseek.training.splits import Part
from sonoseek.training.trainer import CHECKPOINT

MEAN = "average.module."
"""Where a checkpoint keeps the running mean."""
BENIGN, MALIGNANT = PATHOLOGIES.index("benign"), PATHOLOGIES.index("malignant")


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run, finished or not")
    parser.add_argument("--dataset", required=True, help="an archive that the run does not learn from")
    parser.add_argument("--data", type=Path, required=True, help="folder with the datasets")
    parser.add_argument("--root", default="", help="the archive's folder in it, where it is not its name")
    parser.add_argument("--every", type=int, default=1, help="read every nth scan")
    options = parser.parse_args()
    recipe = recipe_of(options.run)
    if options.dataset in {choice.name for choice in recipe.datasets}:
        parser.error(f"the run learns from {options.dataset}; name an archive that it has not seen.")
    checkpoint = torch.load(options.run / CHECKPOINT, map_location="cpu", weights_only=True)
    state = {k.removeprefix(MEAN): v for k, v in checkpoint["state_dict"].items() if k.startswith(MEAN)}
    network = build_network(recipe)
    network.load_state_dict(state)
    dataset = open_dataset(options.dataset, options.data / (options.root or options.dataset))
    found = prepare(dataset, recipe=recipe.preprocessing_recipe, cache=options.run / "prepared")
    score, embeddings, rows = read(ManyViewNetwork(network).eval(), found, every=options.every)
    labels = found.labels[rows]
    lesions = labels != PATHOLOGIES.index("normal")
    area = auroc(score[lesions], labels[lesions] == MALIGNANT, np.ones((1, int(lesions.sum()))))[0]
    precision = own_precision(found, embeddings, rows)
    step = int(checkpoint["global_step"])
    seen = step * recipe.optimiser.batch
    print(f"step {step}, {seen} scans: AUROC {area:.3f}, P@5 {precision:.3f}, on {len(rows)} scans")


@torch.no_grad()
def read(network: ManyViewNetwork, found: PreparedSet, *, every: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log odds of malignant against benign (n,), embeddings (n, D), and the rows that were read (n,)."""
    rows = np.arange(0, len(found.labels), every, dtype=np.int64)
    choice = DatasetChoice(name=found.name)
    part = Part(source=found, choice=choice, rows=rows, groups=np.zeros(len(found.labels), dtype=np.int64))
    outputs = [network(canvases) for canvases, _ in PlainBatches([part], batch=8)]
    logits = torch.cat([out.logits for out in outputs]).double().numpy()
    return logits[:, MALIGNANT] - logits[:, BENIGN], torch.cat([out.embedding for out in outputs]).numpy(), rows


def own_precision(found: PreparedSet, embeddings: np.ndarray, rows: np.ndarray, *, k: int = 5) -> float:
    """Share of a scan's class among its k nearest of other groups, by cosine."""
    group_of = {case_id: n for n, ids in enumerate(components(found.records)) for case_id in ids}
    group = np.array([group_of[str(case_id)] for case_id in found.case_ids[rows]])
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    cosines = np.where(group[:, None] == group[None, :], -2.0, unit @ unit.T)
    nearest = np.argsort(-cosines, axis=1)[:, :k]
    labels = found.labels[rows]
    return float((labels[nearest] == labels[:, None]).mean())


if __name__ == "__main__":
    main()
