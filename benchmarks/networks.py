"""How long each network of the comparison takes for one scan, through ONNX Runtime on two cores.

    .venv/bin/python benchmarks/networks.py [--rounds 30] [--only squeezenet --only outline]

Weights are random: time does not depend on them. Every network reads the same canvas, whatever its recipe's: figures
are compared on the recipes' own canvases, speed on one. Networks are timed in turns, so that a machine that slows down
slows all of them; the median over the rounds is shown, and its ratio to the bundle that ships, timed in the same turns.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime

from sonoseek.encoder import load_bundle
from sonoseek.encoder.onnx_encoder import INPUT, OUTPUTS
from sonoseek.networks.many_views import ManyViewNetwork
from sonoseek.training import load_recipe
from sonoseek.training.building import build_network
from sonoseek.training.export import graph_bytes
from sonoseek.training.recipe import Recipe

RECIPES = Path(__file__).parents[1] / "recipes"
SIDE = 224
THREADS = 2
WARM = 3
"""Runs of each before any is timed."""
SHIPS = "the bundle that ships"


def compared(only: list[str]) -> dict[str, Recipe]:
    """Name → recipe, those with one of `only` in their name; all where it is empty."""
    files = [*sorted(RECIPES.glob("peer-*.toml")), RECIPES / "outline.toml"]
    recipes = {f.stem: load_recipe(f) for f in files if f.stem != "peer-base"}
    chosen = {name: r for name, r in recipes.items() if not only or any(part in name for part in only)}
    if not chosen:
        raise SystemExit(f"--only {' '.join(only)}: no such network; there are {', '.join(recipes)}.")
    return chosen


def write_model(recipe: Recipe, path: Path) -> float:
    """Export the recipe's network at its random start; returns its weights, millions."""
    network = build_network(recipe).eval()
    served = ManyViewNetwork(network).eval() if recipe.many_views else network
    path.write_bytes(graph_bytes(served, canvas_size=SIDE, outputs=OUTPUTS))
    weights = sum(p.numel() for p in served.parameters()) / 1e6
    del network, served
    gc.collect()
    return weights


def weights_of_card(folder: Path) -> float:
    """Millions, as a bundle's card says."""
    told = re.search(r"([\d,]+) weights", (folder / "MODEL_CARD.md").read_text(encoding="utf-8"))
    return int(told[1].replace(",", "")) / 1e6 if told else float("nan")


def opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as the clinic opens a bundle
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timed(sessions: dict[str, onnxruntime.InferenceSession], rounds: int) -> dict[str, float]:
    """Name → milliseconds a scan, median over rounds in which each is asked once, in another order each time."""
    rng = np.random.default_rng(0)
    canvases = {
        side: rng.random((1, 1, side, side), dtype=np.float32) for side in {side_of(s) for s in sessions.values()}
    }
    spent: dict[str, list[float]] = {name: [] for name in sessions}
    for number in range(WARM + rounds):
        for name in order(list(sessions), rng):
            session = sessions[name]
            asked = {INPUT: canvases[side_of(session)]}
            began = time.perf_counter()
            session.run(None, asked)
            if number >= WARM:
                spent[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(each) for name, each in spent.items()}


def side_of(session: onnxruntime.InferenceSession) -> int:
    return int(session.get_inputs()[0].shape[-1])


def order(names: list[str], rng: np.random.Generator) -> Iterator[str]:
    return (names[i] for i in rng.permutation(len(names)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="how often each is timed")
    parser.add_argument("--only", action="append", default=[], help="networks with this in their name; repeatable")
    given = parser.parse_args()
    if given.rounds < 1:
        raise SystemExit(f"--rounds is {given.rounds}; it must be at least 1.")
    ships = load_bundle()
    weights, sizes = {SHIPS: weights_of_card(ships.path)}, {SHIPS: ships.model_path.stat().st_size / 1e6}
    sessions = {SHIPS: opened(ships.model_path)}
    with tempfile.TemporaryDirectory(prefix="sonoseek-networks-") as scratch:
        for name, recipe in compared(given.only).items():
            path = Path(scratch) / f"{name}.onnx"
            weights[name] = write_model(recipe, path)
            sizes[name] = path.stat().st_size / 1e6
            sessions[name] = opened(path)
            path.unlink()
        spent = timed(sessions, given.rounds)
    print(f"one scan, {THREADS} threads, median of {given.rounds} rounds; {ships.bundle_id} ships")
    print(f"canvas {SIDE} px (the bundle that ships: {side_of(sessions[SHIPS])})\n")
    print("| network | parameters, millions | MB | ms a scan | ratio to the bundle that ships |")
    print("|---|---|---|---|---|")
    for name in sorted(spent, key=lambda each: spent[each]):
        ratio = spent[name] / spent[SHIPS]
        print(f"| {name} | {weights[name]:.2f} | {sizes[name]:.1f} | {spent[name]:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
