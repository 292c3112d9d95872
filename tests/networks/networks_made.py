"""Networks as after training: no parameter is zero, and norms know what they normalise."""

import torch

from sonoseek.networks import BACKBONES, NETWORKS, OWN_READERS

FINE = ("squeezenet", "resnet50-v2")
"""Backbones that show finer maps, from which an outline is drawn."""
READING = [(n, b) for n in NETWORKS if n not in OWN_READERS for b in (FINE if n == "outline" else BACKBONES)]
PAIRS = [*READING, *((n, "none") for n in OWN_READERS)]
"""Every network of the table on every backbone that it takes."""
FEW = [(n, b) for n, b in PAIRS if n != "hybrid" or b in ("squeezenet", "tiny")]
"""The same, with two backbones for the hybrid: its rows do not know which backbone they read."""


def usual_backbone(network):
    """The smallest that it takes."""
    return "none" if network in OWN_READERS else "squeezenet" if network == "outline" else "tiny"


def lived_in(module, *, size=64):
    """The same module, in evaluation mode, with running figures of norms from one batch."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.1)
        for norm in norms:
            norm.momentum = 1.0
        scans = torch.rand(4, 1, size, size)
        scans[2:, :, :, : size // 2] = 0  # they have met black
        module.train()(scans)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return module.eval()


def make(network, backbone):
    reader = None if backbone == "none" else BACKBONES.load(backbone)()
    return lived_in(NETWORKS.load(network)(reader, classes=3, embedding_dim=24))
