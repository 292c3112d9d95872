"""AUROC of a run in a hospital that it has not learnt from, with the whole scan and the close-up read at other sizes.

    python benchmarks/reading_sizes.py runs/leave-one-hospital-out/b4-frozen/seed-2/fold-0/training \
      --dataset busi --data /data --every 2

For recipes with `close_up = true`. Malignant against benign, on every n-th lesion of the archive. A line for the whole
scan and the close-up alone at each size, one for each pair, and one for the mean of all: the half of the logit that
each has in `networks.two_readings`. These figures compare ways of reading; what ships is chosen on the mean over
hospitals.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, InvalidValueError
from sonoseek.datasets import open_dataset
from sonoseek.evaluate.metrics import auroc
from sonoseek.networks import two_readings
from sonoseek.networks.two_readings import TwoReadings, cut_out, smaller
from sonoseek.training.batches import PlainBatches
from sonoseek.training.building import load_trained, recipe_of
from sonoseek.training.prepare import prepare
from sonoseek.training.recipe import DatasetChoice
from sonoseek.training.splits import Part

WHOLE = (224, 192, 176, 160, 144)
"""Sides of the whole scan, pixels; the first is how it is served."""
CLOSE = ((3.0, 224), (4.2, 224), (3.0, 176))
"""Close-ups: half side in standard deviations of the estimated lesion, and pixels; the first is how it is served."""
BENIGN, MALIGNANT = PATHOLOGIES.index("benign"), PATHOLOGIES.index("malignant")


@torch.inference_mode()
def read_sizes(network: TwoReadings, canvases: torch.Tensor) -> dict[str, NDArray[np.float32]]:
    """Name of a reading → logit of malignant minus benign (n,), of canvases (n, 1, S, S)."""
    side = canvases.shape[-1]
    middle = canvases.new_full((len(canvases), 2), side / 2)
    served = network._read(smaller(canvases))
    found = {f"whole at {WHOLE[0]}": served}
    for size in WHOLE[1:]:
        found[f"whole at {size}"] = network._read(cut_out(canvases, middle, middle[:, :1], side=size))
    unmarked = canvases.new_full((len(canvases), 4), two_readings.NO_MARK)
    for spread, size in CLOSE:
        usual, two_readings.SPREAD = two_readings.SPREAD, spread
        centre, half = network._place(served.lesion, unmarked, side=side)
        two_readings.SPREAD = usual
        found[f"close-up of {spread:g} at {size}"] = network._read(cut_out(canvases, centre, half, side=size))
    logits = {name: network.head(read.evidence.mean((2, 3))).numpy() for name, read in found.items()}
    return {name: each[:, MALIGNANT] - each[:, BENIGN] for name, each in logits.items()}


def areas(logits: dict[str, NDArray[np.float32]], malignant: NDArray[np.bool_]) -> dict[str, float]:
    """Name → AUROC, of each reading, of each whole scan with each close-up, and of all readings."""
    wholes = [name for name in logits if name.startswith("whole")]
    closes = [name for name in logits if not name.startswith("whole")]
    scores = dict(logits)
    scores |= {f"{one}, {other}": (logits[one] + logits[other]) / 2 for one, other in product(wholes, closes)}
    scores["all"] = (np.mean([logits[n] for n in wholes], axis=0) + np.mean([logits[n] for n in closes], axis=0)) / 2
    one = np.ones((1, len(malignant)))
    return {name: float(auroc(score, malignant, one)[0]) for name, score in scores.items()}


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--dataset", required=True, help="an archive that the run has not learnt from")
    parser.add_argument("--root", default="", help="its folder under --data; by default its name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("runs/prepared"))
    parser.add_argument("--every", type=int, default=1, help="take every n-th lesion")
    options = parser.parse_args()
    recipe, network = recipe_of(options.run), load_trained(options.run)
    if not isinstance(network, TwoReadings):
        raise InvalidValueError(f"{options.run} reads no close-up. Name a run of a recipe with close_up = true.")
    dataset = open_dataset(options.dataset, options.data / (options.root or options.dataset))
    source = prepare(dataset, recipe=recipe.preprocessing_recipe, cache=options.cache)
    rows = np.flatnonzero(np.isin(source.labels, (BENIGN, MALIGNANT)))[:: options.every]
    part = Part(source=source, choice=DatasetChoice(name=dataset.name), rows=rows, groups=np.arange(len(source.labels)))
    found: list[dict[str, NDArray[np.float32]]] = []
    for canvases, _ in PlainBatches([part], batch=8):
        found.append(read_sizes(network, canvases))
    logits = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    print(f"{options.dataset}, {len(rows)} lesions")
    for name, area in areas(logits, part.labels == MALIGNANT).items():
        print(f"{name}: {area:.4f}")


if __name__ == "__main__":
    main()
