"""From a trained network to a bundle folder, checked against the network before anyone sees it."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonoseek.core import BundleError
from sonoseek.core.files import write_atomically
from sonoseek.core.version import __version__
from sonoseek.encoder.bundle import load_bundle
from sonoseek.encoder.manifest import FORMAT
from sonoseek.encoder.onnx_encoder import INPUT, MARK, NO_MARK, OUTPUTS, SPATIAL_WEIGHTS, OnnxEncoder
from sonoseek.encoder.values import CARD_FILE, MANIFEST_FILE, MODEL_FILE
from sonoseek.networks.two_readings import Served, TwoReadings
from sonoseek.preprocessing import PreprocessingRecipe
from sonoseek.training.logging import quiet_loggers
from sonoseek.training.model_card import model_card

OPSET = 18
PLACED_OTHERWISE = 0.1
"""Share of real scans on which rounding may place the close-up a pixel apart; with a mark none may differ."""
TOLERANCE = 1e-4
MAX_BYTES = 200_000_000
"""Of a model: what ONNX Runtime still opens at once. The bundle that ships is at most a tenth, which a test checks."""
COMPARED = 32
"""Most scans of the validation part on which the exported model must agree with the network."""
AT_ONCE = 8
"""Real canvases per comparison."""
_NOISY_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


@dataclass(frozen=True, kw_only=True)
class BundleMetadata:
    """The metadata of a bundle; the fields are those of `encoder.manifest.Manifest`."""

    name: str
    version: str
    classes: tuple[str, ...]
    preprocessing: PreprocessingRecipe
    temperature: float
    abstain_below: float
    conformal: Mapping[str, float]
    operating_points: Mapping[str, Mapping[str, float]]
    training: Mapping[str, Any]
    licences: Mapping[str, str]
    ood: Mapping[str, Any] | None = None
    duplicate_threshold: float | None = None
    training_scans: Mapping[str, Any] | None = None


def export_bundle(
    network: Served,
    *,
    folder: Path,
    metadata: BundleMetadata,
    model: bytes | None = None,
    canvases: NDArray[np.float32] | None = None,
    command: str = "",
) -> Path:
    """Write model, manifest and card; then open them as a user would and compare with `network`.

    Args:
        network: trained; it is left in evaluation mode.
        folder: made if need be; an older bundle in it is replaced.
        metadata: for manifest and card. The manifest's "training" also gets "onnx_vs_torch": the largest
            difference met, as `verify_bundle` gives it.
        model: `onnx_bytes` of the network, where they are at hand; None: they are made.
        canvases: float32 (n, 1, S, S) of real scans to compare on, beside random ones.
        command: that made it, for the card alone: the manifest, and with it the bundle's id, is the same wherever and
            however often a run was started.

    Returns:
        `folder`.

    Raises:
        BundleError: what was written is larger than 20 MB, or does not agree with the network to 1e-4.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network.eval()
    model = onnx_bytes(network, canvas_size=metadata.preprocessing.canvas_size) if model is None else model
    if len(model) > MAX_BYTES:
        raise BundleError(f"the model takes {len(model)} bytes; a bundle's is at most {MAX_BYTES}. Take a smaller one.")
    weight = network.head.weight.detach().numpy()
    cells, fine = (metadata.preprocessing.canvas_size // stride for stride in (network.stride, network.fine_stride))
    manifest = {
        "format": FORMAT,
        **{key: value for key, value in asdict(metadata).items() if key != "preprocessing" and value is not None},
        "preprocessing": metadata.preprocessing.to_dict(),
        "sonoseek": __version__,
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "embedding_dim": weight.shape[1],
        "grid": [cells, cells],
        **({"reads_marks": True} if _reads_marks(network) else {}),
        **({"fine_grid": [fine, fine]} if _has_spatial_weights(network) else {}),
        "head_weight": weight.tolist(),
        "head_bias": network.head.bias.detach().numpy().tolist(),
    }
    write_atomically(folder / MODEL_FILE, model)
    write_atomically(folder / MANIFEST_FILE, manifest_json(manifest))
    parameters = sum(p.numel() for p in network.parameters())
    write_atomically(folder / CARD_FILE, model_card(manifest, parameters=parameters, command=command).encode())
    worst = verify_bundle(network, folder=folder, canvases=canvases)
    manifest["training"] = {**metadata.training, "onnx_vs_torch": float(f"{worst:.2e}")}
    write_atomically(folder / MANIFEST_FILE, manifest_json(manifest))
    load_bundle(folder)
    return folder


def manifest_json(content: Mapping[str, Any]) -> bytes:
    """A manifest as `bundle.json` holds it: sorted keys, one blank of indent, a newline at the end."""
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def onnx_bytes(network: Served, *, canvas_size: int) -> bytes:
    """The network as ONNX: input `canvas` (n, 1, S, S), outputs as `Encoding` has them; n is free."""
    return graph_bytes(network, canvas_size=canvas_size, outputs=_outputs(network), mark=_reads_marks(network))


def _has_spatial_weights(network: Served) -> bool:
    """Whether the network gives spatial weights."""
    return network.fine_stride != network.stride


def _reads_marks(network: Served) -> bool:
    """Whether the network takes a reader's mark beside the canvas."""
    return isinstance(network, TwoReadings)


def _field(output: str) -> str:
    """The field of `NetworkOutput` and `Encoding` that an output of the model holds."""
    return "spatial_weights" if output == SPATIAL_WEIGHTS else output


def _outputs(network: Served) -> tuple[str, ...]:
    return (*OUTPUTS, SPATIAL_WEIGHTS) if _has_spatial_weights(network) else OUTPUTS


def graph_bytes(network: nn.Module, *, canvas_size: int, outputs: Sequence[str], mark: bool = False) -> bytes:
    """Any module that reads canvases as ONNX, without a trace of the machine it was exported on.

    Args:
        network: of canvases, and of marks where `mark` says so.
        canvas_size: S.
        outputs: names of the fields of what it gives.
        mark: whether it takes a reader's mark (n, 4) as second input.
    """
    example = [torch.rand(2, 1, canvas_size, canvas_size), *([torch.full((2, 4), NO_MARK)] if mark else [])]
    names = [INPUT, MARK][: len(example)]
    batch = torch.export.Dim("n", min=1)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Served(network, outputs).train(network.training),
            tuple(example),
            dynamo=True,
            input_names=names,
            output_names=list(outputs),
            dynamic_shapes={name: {0: batch} for name in names},
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:  # only where the exporter writes files itself
        raise BundleError(
            "the ONNX exporter returned nothing; torch is of an untested version. Install the pinned one."
        )
    model = program.model_proto
    # The exporter notes where each node stands in the source, absolute paths included: no business of a user's.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for item in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info):
        del item.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = "sonoseek", __version__
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


class _Served(nn.Module):
    """A network without what only its losses need."""

    def __init__(self, network: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self._outputs = tuple(outputs)

    def forward(self, canvas: Tensor, mark: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        out = self.network(canvas) if mark is None else self.network(canvas, mark)
        return out if isinstance(out, Tensor) else tuple(getattr(out, _field(name)) for name in self._outputs)


def verify_bundle(network: Served, *, folder: Path, canvases: NDArray[np.float32] | None = None) -> float:
    """Compare the written bundle with the network on random canvases, padding and batches of several sizes included.

    Args:
        network: in evaluation mode, on the CPU.
        folder: of the bundle.
        canvases: float32 (n, 1, S, S) of real scans, as the network takes them, to compare on as well.

    Returns:
        The largest difference met, relative to the largest value where that is above 1.

    Raises:
        BundleError: it is above 1e-4, or the identities of `Encoding` do not hold.
    """
    bundle = load_bundle(folder)
    encoder = OnnxEncoder(bundle, threads=1)
    noise = list(_random_canvases(bundle.recipe.canvas_size))
    real = [] if canvases is None else [canvases[at : at + AT_ONCE] for at in range(0, len(canvases), AT_ONCE)]
    if not bundle.reads_marks:
        worst = max(_difference(network, encoder, some) for some in (*noise, *real))
    else:
        worst = max(_difference(network, encoder, some, marks=_random_marks(some)) for some in (*noise, *real))
        # Without a mark, rounding may decide by a pixel where the close-up lies: always in noise, where the lesion is
        # faint, and now and then on a scan.
        single = sorted(_difference(network, encoder, canvas[None]) for some in real for canvas in some)
        if single:
            worst = max(worst, single[: math.ceil((1 - PLACED_OTHERWISE) * len(single))][-1])
            worst = worst if math.isfinite(single[-1]) else single[-1]
    if not worst <= TOLERANCE:
        raise BundleError(
            f"the exported model differs from the trained network by {worst:.2e}; at most {TOLERANCE} is allowed. "
            "torch, onnx or onnxruntime are of untested versions: install the pinned ones."
        )
    return worst


def _random_canvases(size: int) -> Iterator[NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    for count in (1, 3):
        canvases = rng.random((count, 1, size, size), dtype=np.float32)
        canvases[:, :, : rng.integers(1, size // 2)] = -1.0
        canvases[-1, :, :, size // 2 + 5 :] = -1.0
        yield canvases


def _random_marks(canvases: NDArray[np.float32]) -> NDArray[np.float32]:
    """A mark for each canvas, float32 (n, 4)."""
    side = canvases.shape[-1]
    edges = np.sort(np.random.default_rng(1).uniform(0, side, (len(canvases), 2, 2)), axis=2)
    return np.concatenate([edges[..., 0], edges[..., 1]], axis=1).astype(np.float32)


def _difference(
    network: Served,
    encoder: OnnxEncoder,
    canvases: NDArray[np.float32],
    *,
    marks: NDArray[np.float32] | None = None,
) -> float:
    """The largest one; infinite where either gives a number that is not finite."""
    bundle = encoder.bundle
    got = encoder.encode(canvases, marks=marks)
    with torch.inference_mode():
        given = torch.from_numpy(canvases)
        out = network(given) if marks is None else network(given, torch.from_numpy(marks))
    pairs = [
        *((getattr(got, _field(name)), getattr(out, _field(name)).numpy()) for name in _outputs(network)),
        (got.spatial_weights.clip(min=0), got.spatial_weights),
        (got.embedding, got.evidence.mean((2, 3))),
        (got.logits, got.embedding @ bundle.head_weight.T + bundle.head_bias),
    ]
    differences = [float(np.abs(a - b).max() / max(1.0, float(np.abs(b).max()))) for a, b in pairs]
    return max(differences) if np.isfinite(differences).all() else float("inf")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own deprecations and notes on absent packages from the user: nothing they could act on."""
    with warnings.catch_warnings(), quiet_loggers(*_NOISY_LOGGERS):
        warnings.simplefilter("ignore", category=FutureWarning)
        warnings.simplefilter("ignore", category=DeprecationWarning)
        # canvas and mark have one batch size, which the exporter would rather name twice
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        yield
