"""How much of a network's answer depends on how a scan was saved: cosines of embeddings, changes of the prediction.

    .venv/bin/python benchmarks/resaving.py --data $SONOSEEK_DATA [--bundle BUNDLE] [--every N]

Every scan of BUSI and BUS-BRA is encoded as it is, at half its size, at 1.5 times its size, as JPEG of quality 75, and
with a border of 20 pixels. A border adds nothing, and the other three change no more than a viewer shows: the network's
input should hardly change. The mirrored scan stands beside them, as what the network itself makes of one scan twice.
The last table shows the quality of the prediction on the scans as they are, with BUS_UC, which no bundle was trained
on: a change of the preprocessing that steadies the input must not cost it.

The same scans, bundle and `--every` give the same figures; nothing is drawn by chance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track
from sklearn.metrics import roc_auc_score

from sonoseek import Scan, load_bundle, open_dataset
from sonoseek.core import PATHOLOGIES
from sonoseek.encoder import Encoder, open_encoder, to_input
from sonoseek.evaluate.calibrate import softmax
from sonoseek.preprocessing import PreprocessedScan, PreprocessingRecipe, preprocess

Pixels = np.ndarray
BORDER = 20
"""Pixels on every side."""
BORDERS = ("border, black", "border, white")
WANTED = {"first percentile": 0.97, "worst": 0.90}
MALIGNANT = PATHOLOGIES.index("malignant")


def halved(pixels: Pixels) -> Pixels:
    """By averaging areas, as a viewer or a converter shrinks."""
    height, width = pixels.shape
    return cv2.resize(pixels, (max(width // 2, 8), max(height // 2, 8)), interpolation=cv2.INTER_AREA)


def enlarged(pixels: Pixels) -> Pixels:
    return cv2.resize(pixels, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC)


def saved(pixels: Pixels) -> Pixels:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_GRAYSCALE)


def framed(level: int) -> Callable[[Pixels], Pixels]:
    return lambda pixels: cv2.copyMakeBorder(pixels, *(BORDER,) * 4, cv2.BORDER_CONSTANT, value=level)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "half size": halved,
    "1.5 times": enlarged,
    "JPEG, quality 75": saved,
    "border, black": framed(0),
    "border, white": framed(255),
    "mirrored": lambda pixels: np.ascontiguousarray(pixels[:, ::-1]),
}
RESAVED = tuple(name for name in CHANGES if name != "mirrored")
"""The changes that the aim is set for."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a network says of n scans, of each as it is (first) and changed: v = 1 + changes.

    embeddings: (n, v, D). probabilities: (n, v, C). names: (n,). labels: (n,), index into `PATHOLOGIES`.
    """

    embeddings: np.ndarray
    probabilities: np.ndarray
    names: list[str]
    labels: np.ndarray


Preprocessor = Callable[[Scan, PreprocessingRecipe], PreprocessedScan]


def answers(
    encoder: Encoder,
    scans: list[tuple[str, str, Callable[[], Pixels]]],
    *,
    changes: dict[str, Callable[[Pixels], Pixels]],
    title: str,
    preprocessor: Preprocessor = preprocess,
    quiet: bool = False,
) -> Predictions:
    """Encode (name, pathology, how to read it) of each scan, as it is and changed."""

    def one(scan: tuple[str, str, Callable[[], Pixels]]) -> tuple[np.ndarray, np.ndarray]:
        pixels = scan[2]()
        versions = [pixels, *(change(pixels) for change in changes.values())]
        inputs = [to_input(preprocessor(Scan(pixels=each), encoder.bundle.recipe)) for each in versions]
        said = encoder.encode(np.stack(inputs))
        return said.embedding.astype(np.float64), softmax(said.logits / encoder.bundle.temperature)

    with ThreadPoolExecutor(2) as pool:
        done = list(track(pool.map(one, scans), description=title, total=len(scans), disable=quiet))
    return Predictions(
        embeddings=np.stack([each[0] for each in done]),
        probabilities=np.stack([each[1] for each in done]),
        names=[name for name, _, _ in scans],
        labels=np.array([PATHOLOGIES.index(label) for _, label, _ in scans]),
    )


def archive_scans(name: str, data: Path, *, every: int) -> list[tuple[str, str, Callable[[], Pixels]]]:
    dataset = open_dataset(name, data / name)

    def reader(case_id: str) -> Callable[[], Pixels]:
        return lambda: dataset.load(case_id, masks=False).scans[0].pixels

    return [(r.case_id, r.pathology, reader(r.case_id)) for r in dataset.records()[::every]]


def bus_uc_scans(data: Path, *, every: int) -> list[tuple[str, str, Callable[[], Pixels]]]:
    """All but the nine that lie under both labels; empty where the archive is not there."""
    both = {"Benign": range(134, 137), "Malignant": (*range(223, 226), *range(419, 422))}

    def found() -> Iterator[tuple[str, str, Callable[[], Pixels]]]:
        for folder, label in (("Benign", "benign"), ("Malignant", "malignant")):
            for path in sorted((data / "bus_uc" / "BUS_UC" / folder / "images").glob("*")):
                if not (path.stem.isdigit() and int(path.stem) in both[folder]):
                    yield f"{label}/{path.name}", label, lambda path=path: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)

    return list(found())[::every]


def cosines(told: Predictions) -> np.ndarray:
    """Of each changed scan with the scan as it is, (n, v − 1)."""
    units = told.embeddings / np.maximum(np.linalg.norm(told.embeddings, axis=2, keepdims=True), 1e-12)
    return np.einsum("nvd,nd->nv", units[:, 1:], units[:, 0])


def steadiness(told: Predictions, changes: list[str]) -> dict[str, dict[str, object]]:
    """Change → its figures."""
    near, p = cosines(told), told.probabilities
    figures: dict[str, dict[str, object]] = {}
    for number, name in enumerate(changes):
        moved = np.abs(p[:, number + 1, MALIGNANT] - p[:, 0, MALIGNANT])
        column = near[:, number]
        figures[name] = {
            "cosine_min": float(column.min()),
            "cosine_p1": float(np.percentile(column, 1)),
            "cosine_median": float(np.median(column)),
            "class_changes": float(np.mean(p[:, number + 1].argmax(1) != p[:, 0].argmax(1))),
            "p_malignant_median": float(np.median(moved)),
            "p_malignant_p99": float(np.percentile(moved, 99)),
            "worst_scans": [told.names[row] for row in np.argsort(column)[:5]],
        }
    return figures


def quality(told: Predictions) -> dict[str, float]:
    """Of the prediction, on the scans as they are."""
    p = told.probabilities[:, 0]
    right = p.argmax(1) == told.labels
    return {
        "scans": len(right),
        "accuracy": float(right.mean()),
        "auroc_malignant": float(roc_auc_score(told.labels == MALIGNANT, p[:, MALIGNANT])),
    }


def as_tables(figures: dict[str, object]) -> str:
    lines = [
        "| archive | change | cosine, least | 1st percentile | median | likeliest class changes | "
        "P(malignant) moves, median | 99th percentile |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for archive, changes in figures["resaved"].items():  # type: ignore[attr-defined]
        for name, f in changes.items():
            lines.append(
                f"| {archive} | {name} | {f['cosine_min']:.3f} | {f['cosine_p1']:.3f} | {f['cosine_median']:.4f} | "
                f"{f['class_changes']:.1%} | {f['p_malignant_median']:.3f} | {f['p_malignant_p99']:.3f} |"
            )
    lines += ["", "| archive | scans | AUROC, malignant | accuracy |", "|---|---|---|---|"]
    for archive, f in figures["quality"].items():  # type: ignore[attr-defined]
        lines.append(f"| {archive} | {f['scans']} | {f['auroc_malignant']:.4f} | {f['accuracy']:.3f} |")
    return "\n".join(lines)


def measure(
    encoder: Encoder, data: Path, *, every: int, preprocessor: Preprocessor = preprocess, quiet: bool = False
) -> dict:
    figures: dict[str, dict] = {"resaved": {}, "quality": {}}
    for name in ("busi", "busbra"):
        scans = archive_scans(name, data, every=every)
        told = answers(encoder, scans, changes=CHANGES, title=name, preprocessor=preprocessor, quiet=quiet)
        figures["resaved"][name] = steadiness(told, list(CHANGES))
        figures["quality"][name] = quality(told)
    if unseen := bus_uc_scans(data, every=every):
        told = answers(encoder, unseen, changes={}, title="bus_uc", preprocessor=preprocessor, quiet=quiet)
        figures["quality"]["bus_uc, not trained on"] = quality(told)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with busi, busbra and, if there, bus_uc")
    parser.add_argument("--bundle", type=Path, help="another than the one that ships")
    parser.add_argument("--every", type=int, default=1, help="take every n-th scan")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures, such as docs/results/resaving.json")
    given = parser.parse_args()
    encoder = open_encoder(load_bundle(given.bundle), threads=1)
    figures = measure(encoder, given.data, every=given.every)
    figures = {"bundle": encoder.bundle.bundle_id, "every": given.every, **figures}
    table = as_tables(figures)
    if given.out is not None:
        given.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        page = given.out.with_suffix(".md")
        if page.is_file():
            fill(page, table)
    print(table)


def fill(page: Path, table: str) -> None:
    """Put the tables between the page's two comments."""
    start, stop = "<!-- resaving: begin -->", "<!-- resaving: end -->"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(start)
    page.write_text(f"{before}{start}\n\n{table}\n\n{stop}{rest.split(stop)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
