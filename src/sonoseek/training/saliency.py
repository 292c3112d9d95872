"""Gradient methods of others on a trained network: the peers that its own heatmaps are measured against.

Captum's code (Kokhlikyan et al. 2020, arXiv:2009.07896), not ours: Grad-CAM (Selvaraju et al. 2017,
doi:10.1109/ICCV.2017.74), HiResCAM (Draelos & Carin 2020, arXiv:2011.08891: Captum's layer gradient × activation,
summed over channels), integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365). MONAI has a Grad-CAM too; its
default normaliser turns the map upside down (0 is hottest), and it has no HiResCAM.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonoseek.core import InvalidValueError, NotFoundError, from_extra
from sonoseek.encoder import Bundle, Encoder, Encoding, load_bundle
from sonoseek.evaluate.speed import seconds
from sonoseek.networks.evidence import EvidenceNetwork, NetworkOutput
from sonoseek.networks.many_views import ManyViewNetwork
from sonoseek.training.building import as_served, build_network, load_trained, recipe_of, trained_beside

GRADIENT_METHODS = ("grad-cam", "hirescam", "integrated-gradients")
STEPS = 32
"""Of integrated gradients, by Gauss–Legendre quadrature."""
OTHER_SEED = 7_919
"""Added to a recipe's seed for a network with other random weights."""


def open_peers(bundle: Path) -> NetworkPeers | None:
    """The network that a bundle was exported from, where the bundle still lies in its run's folder; else None."""
    run = trained_beside(bundle)
    return None if run is None else NetworkPeers(run)


class NetworkPeers:
    """One trained network, for gradient methods. Not safe for several threads."""

    names: Sequence[str] = GRADIENT_METHODS

    def __init__(self, run_dir: Path) -> None:
        """Open a run.

        Args:
            run_dir: of `train`, with its weights and its bundle.

        Raises:
            MissingExtraError: Captum is not installed.
            BundleError, NotFoundError: as `load_trained`.
        """
        with from_extra("train"):
            import captum  # noqa: F401
        self._bundle = load_bundle(run_dir / "bundle")
        self._recipe = recipe_of(run_dir)
        self._trained = load_trained(run_dir)

    def explain(
        self,
        method: str,
        canvas: NDArray[np.float32],
        target: int,
        *,
        nothing: NDArray[np.float32],
        randomised: bool = False,
    ) -> NDArray[np.float32]:
        """A map of one class's logit.

        Args:
            method: of `names`.
            canvas: float32 (1, S, S), as the network reads it.
            target: index of the class.
            nothing: (1, S, S), where integrated gradients start: the same scan with nothing to be seen.
            randomised: of the network with random weights: what a map shows without any training.

        Returns:
            Signed: float32 (h, w) on the cells of the backbone's last map, or (S, S) of integrated gradients. What the
            network gives for the scan and for its mirror image is averaged where both are served. Grad-CAM without the
            final ReLU, so that weak and negative places can be distinguished.

        Raises:
            NotFoundError: no such method.
        """
        return _explained(self._random if randomised else self._trained, method, canvas, target, nothing=nothing)

    def plain(self, canvas: NDArray[np.float32]) -> float:
        """Seconds of one plain run of the network in torch, the median of nine."""
        given = torch.from_numpy(canvas[np.newaxis])
        with torch.inference_mode():
            times = [seconds(lambda: self._trained(given)) for _ in range(10)]
        return statistics.median(times[1:])

    def randomised(self) -> NetworkEncoder:
        """The network with every weight random, behind the interface of a bundle's encoder."""
        return NetworkEncoder(self._random, self._bundle)

    @cached_property
    def _random(self) -> nn.Module:
        network = build_network(msgspec.structs.replace(self._recipe, seed=self._recipe.seed + OTHER_SEED))
        return as_served(network, self._recipe).eval()


class NetworkEncoder(Encoder):
    """A network of torch where an ONNX one is expected: it stands for a bundle, with its own head."""

    def __init__(self, network: nn.Module, bundle: Bundle) -> None:
        """Put a network in a bundle's place.

        Args:
            network: an `EvidenceNetwork` or many views of one, in evaluation mode.
            bundle: whose preprocessing and classes it shares.
        """
        head: Any = network.head
        self._network = network
        self._bundle = replace(
            bundle,
            head_weight=head.weight.detach().numpy().copy(),
            head_bias=head.bias.detach().numpy().copy(),
        )

    @property
    def bundle(self) -> Bundle:
        """The bundle, with this network's head."""
        return self._bundle

    def encode(self, canvases: NDArray[np.float32], *, marks: NDArray[np.float32] | None = None) -> Encoding:
        """As `OnnxEncoder.encode`."""
        given = [torch.from_numpy(np.ascontiguousarray(each)) for each in (canvases, marks) if each is not None]
        with torch.inference_mode():
            out: NetworkOutput = self._network(*given)
        cells = np.ones((len(canvases), *self._bundle.grid), np.float32)
        return Encoding(
            logits=out.logits.numpy(),
            embedding=out.embedding.numpy(),
            evidence=out.evidence.numpy(),
            spatial_weights=cells if out.spatial_weights is None else out.spatial_weights.numpy(),
        )


def _explained(
    served: nn.Module, method: str, canvas: NDArray[np.float32], target: int, *, nothing: NDArray[np.float32]
) -> NDArray[np.float32]:
    single: Any = served.network if isinstance(served, ManyViewNetwork) else served
    views = (False, True) if isinstance(served, ManyViewNetwork) else (False,)
    maps = []
    for mirrored in views:
        inputs = [
            torch.from_numpy(np.ascontiguousarray(each[..., ::-1] if mirrored else each)) for each in (canvas, nothing)
        ]
        attributed = _attributed(single, method, inputs[0][None], target, nothing=inputs[1][None])
        maps.append(attributed.flip(1) if mirrored else attributed)
    mean: NDArray[np.float32] = torch.stack(maps).mean(0).detach().numpy().astype(np.float32)
    if not np.isfinite(mean).all():
        raise InvalidValueError(
            f"{method} gave NaN or infinity; the network's gradients are not finite. Train it again."
        )
    return mean


def _attributed(network: EvidenceNetwork, method: str, canvas: Tensor, target: int, *, nothing: Tensor) -> Tensor:
    from captum.attr import IntegratedGradients, LayerGradCam, LayerGradientXActivation

    def logits(canvases: Tensor) -> Tensor:
        out: NetworkOutput = network(canvases)
        return out.logits

    if method == "integrated-gradients":
        attribution = IntegratedGradients(logits).attribute(
            canvas, baselines=nothing, target=target, n_steps=STEPS, internal_batch_size=STEPS
        )
        return torch.as_tensor(attribution)[0, 0]
    layer = _last_map(network, canvas.shape[-1])
    if method == "grad-cam":
        return torch.as_tensor(LayerGradCam(logits, layer).attribute(canvas, target=target))[0, 0]
    if method == "hirescam":
        return torch.as_tensor(LayerGradientXActivation(logits, layer).attribute(canvas, target=target))[0].sum(0)
    raise NotFoundError(f"no gradient method is called {method!r}; there are: {', '.join(GRADIENT_METHODS)}.")


@lru_cache(maxsize=2)
def _last_map(network: EvidenceNetwork, size: int) -> nn.Module:
    """The module of the backbone whose output is its last map: the layer that both CAMs are read from.

    Raises:
        InvalidValueError: there is none; the network reads pixels some other way.
    """
    side = size // network.stride
    layers_of_map: list[nn.Module] = []
    hooks = [
        module.register_forward_hook(
            lambda module, _inputs, out: (
                layers_of_map.append(module) if isinstance(out, Tensor) and out.shape[2:] == (side, side) else None
            )
        )
        for module in network.backbone.modules()
    ]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 1, size, size))
    finally:
        for hook in hooks:
            hook.remove()
    if not layers_of_map:
        raise InvalidValueError(
            "the network's backbone gives no map of its cells, from which a CAM is read. Take a network with a CNN."
        )
    return layers_of_map[-1]
