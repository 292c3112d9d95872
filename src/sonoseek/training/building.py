"""A recipe's network: at its random start, or as a run has trained it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sonoseek.core import PATHOLOGIES, BundleError, InvalidValueError
from sonoseek.networks import BACKBONES, NETWORKS, NO_BACKBONE
from sonoseek.networks.evidence import EvidenceNetwork
from sonoseek.networks.many_views import ManyViewNetwork
from sonoseek.networks.start_weights import load_start_weights, start_weights_path
from sonoseek.networks.two_readings import Served, TwoReadings
from sonoseek.training.recipe import Recipe, recipe_from_dict
from sonoseek.training.run_folder import BUNDLE_FOLDER, RECIPE_FILE, WEIGHTS_FILE, stored_recipe

_NOT_OF_A_RECIPE = ("fold", "round")
"""What a run's `recipe.json` says beside its recipe."""


def build_network(recipe: Recipe) -> EvidenceNetwork:
    """The recipe's network at its random start, the same for the same seed.

    Raises:
        NotFoundError: no such network or backbone.
        InvalidValueError: the network takes no backbone, or none is named for one that needs it.
    """
    network = NETWORKS.load(recipe.network)
    backbone = None if recipe.backbone == NO_BACKBONE else BACKBONES.load(recipe.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        options: dict[str, bool | float] = {} if recipe.row_context else {"row_context": False}
        if recipe.network == "outline":
            options = {**options, "floor": recipe.outline_floor}
        built: EvidenceNetwork = network(
            backbone and backbone(), classes=len(PATHOLOGIES), embedding_dim=recipe.embedding_dim, **options
        )
    return built


def start_network(recipe: Recipe, *, weights_root: Path | None) -> EvidenceNetwork:
    """The recipe's network with its start weights, its first blocks frozen where the recipe says so.

    Raises:
        NotFoundError, InvalidValueError: as `build_network` and `load_start_weights`; weights of another network.
    """
    network = build_network(recipe)
    if recipe.start.weights != "random":
        path = start_weights_path(recipe.start.weights, root=weights_root)
        weights = load_start_weights(path, sha256=recipe.start.sha256)
        if any(key.startswith("backbone.") for key in weights):
            _take_over(network, weights, path)
        else:
            load = getattr(network.backbone, "load_start")  # noqa: B009 - every backbone of the table has it
            load(weights)
        if recipe.start.frozen:
            freeze = getattr(network.backbone, "freeze")  # noqa: B009 - the recipe allows it for those that have it
            freeze(recipe.start.frozen)
    return network


def _take_over(network: EvidenceNetwork, weights: Mapping[str, Tensor], path: Path) -> None:
    """Start from all of another run's network, its `network.safetensors`, but for parts that are left out here."""
    left_out = {name for name, part in vars(network).items() if part is None} | {
        name for name, part in network._modules.items() if part is None
    }
    try:
        network.load_state_dict({key: value for key, value in weights.items() if key.split(".")[0] not in left_out})
    except RuntimeError as error:
        raise InvalidValueError(
            f"{path} holds another network than the recipe's ({error}). Give both recipes the same network, backbone "
            "and embedding_dim."
        ) from error


def trained_beside(bundle: Path) -> Path | None:
    """The run's folder that `bundle` still lies in, with the weights it was exported from; None: a bundle alone."""
    run = bundle.parent
    whole = bundle.name == BUNDLE_FOLDER and (run / WEIGHTS_FILE).is_file() and (run / RECIPE_FILE).is_file()
    return run if whole else None


def recipe_of(run_dir: Path) -> Recipe:
    """The recipe that a run was made by."""
    stored = stored_recipe(run_dir)
    return recipe_from_dict({key: value for key, value in stored.items() if key not in _NOT_OF_A_RECIPE})


def load_trained(run_dir: Path, *, once: bool = False) -> nn.Module:
    """The network of a run in evaluation mode, several views and all.

    Args:
        run_dir: holds `recipe.json` and `network.safetensors`, as `train` leaves them.
        once: the network alone, which reads a canvas once, as in training.

    Raises:
        BundleError: the weights are not those of the recipe's network.
        NotFoundError, InvalidValueError: weights that are missing or do not read.
    """
    recipe = recipe_of(run_dir)
    network = build_network(recipe)
    try:
        network.load_state_dict(load_start_weights(run_dir / WEIGHTS_FILE))
    except RuntimeError as error:
        raise BundleError(
            f"{run_dir / WEIGHTS_FILE} holds another network than {RECIPE_FILE} names ({error}). Train it again."
        ) from error
    return (network if once else as_served(network, recipe)).eval()


def as_served(network: EvidenceNetwork, recipe: Recipe) -> Served:
    """The network in the way in which scans are read: once, in several views, or with a close-up; not copied."""
    if not (recipe.close_up or recipe.many_views):
        return network
    wrapped = TwoReadings(network) if recipe.close_up else ManyViewNetwork(network)
    return wrapped.train(network.training)  # a new module is in training mode, and an export follows its mode


def serving_device(accelerator: str) -> torch.device:
    """Where a trained network is read: "gpu" → this process's GPU, else the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if accelerator == "gpu" else torch.device("cpu")
