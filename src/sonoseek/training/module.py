"""The Lightning module: one optimiser, one running mean of the weights, figures per epoch."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy

from sonoseek.core import PATHOLOGIES
from sonoseek.networks import BACKBONES, NETWORKS, NO_BACKBONE
from sonoseek.networks.hybrid import HybridNetwork, NetworkOutput
from sonoseek.training.batches import Batch
from sonoseek.training.losses import contrast, masked_cross_entropy
from sonoseek.training.recipe import Recipe

MALIGNANT = PATHOLOGIES.index("malignant")
VALIDATION_LOSS = "val_loss"


def build_network(recipe: Recipe) -> HybridNetwork:
    """The recipe's network at its random start, the same for the same seed.

    Raises:
        NotFoundError: no such network or backbone.
        InvalidValueError: the network takes no backbone, or none is named for one that needs it.
    """
    network = NETWORKS.load(recipe.network)
    backbone = None if recipe.backbone == NO_BACKBONE else BACKBONES.load(recipe.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        built: HybridNetwork = network(
            backbone and backbone(), classes=len(PATHOLOGIES), embedding_dim=recipe.embedding_dim
        )
    return built


class TrainingModule(lightning.LightningModule):
    """Trains `network`; what is validated and exported is the running mean of its weights, `kept`."""

    def __init__(self, network: HybridNetwork, recipe: Recipe, *, steps: int) -> None:
        """Prepare.

        Args:
            network: with its start weights.
            recipe: of the run.
            steps: of the whole run, for the schedule.
        """
        super().__init__()
        self.recipe = recipe
        self.steps = steps
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        decay = recipe.optimiser.average
        self.average = AveragedModel(self.network, multi_avg_fn=_mean_with(decay)) if decay > 0 else None
        self.accuracy = MulticlassAccuracy(num_classes=len(PATHOLOGIES), average="micro")
        self.auroc = BinaryAUROC()
        self.loss = MeanMetric()
        self.known = torch.tensor([any(name in d.classes for d in recipe.datasets if d.folded) for name in PATHOLOGIES])

    @property
    def kept(self) -> nn.Module:
        """The weights that are validated and exported."""
        return self.network if self.average is None else self.average.module

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Two views of each scan; returns the loss."""
        del batch_idx
        canvases, labels, groups, known = batch
        loss = self.recipe.loss
        out: NetworkOutput = self.network(canvases.contiguous(memory_format=torch.channels_last))
        total = masked_cross_entropy(out.logits, labels, known, smoothing=loss.smoothing)
        for weight, key in ((loss.supervised, labels), (loss.instance, groups)):
            if weight > 0:
                same = key[:, None] == key[None, :]
                total = total + weight * contrast(out.embedding, same, temperature=loss.contrast_temperature)
        self.log("loss", total.detach(), prog_bar=True, on_step=False, on_epoch=True, batch_size=len(labels))
        return total

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the running mean; early on it follows faster, so that it does not remember the random start."""
        del outputs, batch, batch_idx
        if self.average is not None:
            seen = int(self.average.n_averaged)
            decay = min(self.recipe.optimiser.average, (1 + seen) / (10 + seen))
            self.average.multi_avg_fn = _mean_with(decay)
            self.average.update_parameters(self.network)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Figures of the kept weights."""
        del batch_idx
        canvases, labels = batch
        logits = self.kept(canvases.contiguous(memory_format=torch.channels_last)).logits
        self.accuracy.update(logits, labels)
        self.auroc.update(logits.softmax(1)[:, MALIGNANT], (labels == MALIGNANT).long())
        self.loss.update(cross_entropy(logits.masked_fill(~self.known, -1e9), labels), len(labels))

    def on_validation_epoch_end(self) -> None:
        """Show them."""
        self.log("val_accuracy", self.accuracy.compute(), prog_bar=True)
        self.log("val_auroc", self.auroc.compute(), prog_bar=True)
        self.log(VALIDATION_LOSS, self.loss.compute())
        for metric in (self.accuracy, self.auroc, self.loss):
            metric.reset()

    def configure_optimizers(self) -> Any:
        """AdamW; the start weights move slower; a rise, then a cosine down to a hundredth."""
        options = self.recipe.optimiser
        start = [p for p in self.network.backbone.parameters() if p.requires_grad]
        ids = {id(p) for p in start}
        rest = [p for p in self.network.parameters() if id(p) not in ids]
        optimiser = torch.optim.AdamW(
            [{"params": start, "lr": options.backbone_lr}, {"params": rest, "lr": options.lr}],
            weight_decay=options.weight_decay,
        )
        rise = max(1, round(options.warmup * self.steps))

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            done = min(1.0, (step - rise) / max(1, self.steps - rise))
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _mean_with(decay: float) -> Any:
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch publishes no types for it
