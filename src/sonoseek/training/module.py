"""The Lightning module: one optimiser, one running mean of the weights, figures per epoch."""

from __future__ import annotations

import math
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAUROC, MulticlassAccuracy

from sonoseek.core import PATHOLOGIES
from sonoseek.networks.evidence import EvidenceNetwork, NetworkOutput
from sonoseek.networks.two_readings import smaller
from sonoseek.training.batches import Batch, input_side
from sonoseek.training.descriptors import NAMES, descriptor_loss
from sonoseek.training.losses import (
    contrast,
    distillation,
    distribute_within_cells,
    lesion_loss,
    masked_cross_entropy,
    same_similarity,
    stray_evidence,
)
from sonoseek.training.mix_style import MixStyle, early_layers
from sonoseek.training.recipe import Recipe
from sonoseek.training.teachers import Teachers

MALIGNANT = PATHOLOGIES.index("malignant")
VALIDATION_LOSS = "val_loss"
UNLEARNT = -100.0
"""Logit of a class that was never learnt: its probability is 0 at any temperature."""


class TrainingModule(lightning.LightningModule):
    """Trains `network`; what is validated and exported is the running mean of its weights, `averaged`."""

    def __init__(
        self, network: EvidenceNetwork, recipe: Recipe, *, steps: int, teachers: Teachers | None = None
    ) -> None:
        """Prepare.

        Args:
            network: with its start weights.
            recipe: of the run.
            steps: of the whole run, for the schedule.
            teachers: whose predictions are targets beside the labels.
        """
        super().__init__()
        self.teachers = teachers
        self.recipe = recipe
        self.steps = steps
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self._mix_style = MixStyle(probability=recipe.augmentation.mix_style)
        self.descriptors = nn.Linear(recipe.embedding_dim, len(NAMES)) if recipe.loss.descriptors > 0 else None
        """Of the side task; it is not exported."""
        decay = recipe.optimiser.average
        self.average = AveragedModel(self.network, multi_avg_fn=_mean_with(decay)) if decay > 0 else None
        if recipe.augmentation.mix_style > 0:  # after the running mean was copied: it is never mixed
            for layer in early_layers(self.network.backbone):
                layer.register_forward_hook(self._mix_style)
        self.accuracy = MulticlassAccuracy(num_classes=len(PATHOLOGIES), average="micro")
        self.auroc = BinaryAUROC()
        self.loss = MeanMetric()
        known = torch.tensor([any(name in d.classes for d in recipe.datasets if d.folded) for name in PATHOLOGIES])
        self.known: Tensor
        self.register_buffer("known", known, persistent=False)
        self.terms: dict[str, Tensor] = {}
        """The last step's loss and the terms that it is made of, without gradients; what the curves show."""
        self.lower: torch.dtype | None = None
        """What the network computes in during training, where not in float32."""
        if self.average is not None:
            self.average.requires_grad_(False)

    @property
    def averaged(self) -> EvidenceNetwork:
        """The weights that are validated and exported."""
        return self.network if self.average is None else cast(EvidenceNetwork, self.average.module)

    def trained_network(self) -> EvidenceNetwork:
        """The averaged network after the fit, in evaluation mode; classes without training scans are closed."""
        network = self.averaged.eval()
        close_unlearnt(network, self.known)
        return network

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """All views of a batch; returns the loss."""
        del batch_idx
        self._mix_style.seed(self.recipe.seed * 1_000_003 + self.global_step)
        canvases, lesions = self._resized(batch.canvases, batch.lesions)
        out = self._run(self.network, canvases)
        total = torch.zeros((), device=canvases.device)
        terms = self._terms(batch, out, canvases, lesions)
        for term in terms.values():
            total = total + term
        self.terms = {f"loss_{name}": term.detach() for name, term in terms.items()}
        self.log("loss", total.detach(), prog_bar=True, on_step=False, on_epoch=True, batch_size=len(canvases))
        return total

    def _terms(self, batch: Batch, out: NetworkOutput, canvases: Tensor, lesions: Tensor) -> dict[str, Tensor]:
        """Name → weighted term of the loss."""
        loss = self.recipe.loss
        entropy = masked_cross_entropy(out.logits, batch.targets, batch.known, smoothing=loss.smoothing)
        terms = {"entropy": entropy}
        if self.teachers is not None:
            terms = self._distillation_terms(self.teachers, entropy, out, batch)
        for name, weight, key in (
            ("supervised", loss.supervised, batch.labels),
            ("instance", loss.instance, batch.groups),
        ):
            if weight > 0:
                same = key[:, None] == key[None, :]
                terms[name] = weight * contrast(out.embedding, same, temperature=loss.contrast_temperature)
        if self.descriptors is not None:
            estimates = self.descriptors(out.embedding)
            terms["descriptors"] = loss.descriptors * descriptor_loss(estimates, batch.descriptors)
        if loss.lesion > 0 or loss.evidence > 0:
            drawn = lesions.to(canvases.dtype) / 255
            if loss.lesion > 0 and out.lesion is not None:
                cells = (out.lesion.shape[2], out.lesion.shape[3])
                scanned = adaptive_avg_pool2d((canvases >= 0).to(canvases.dtype), cells)
                terms["lesion"] = loss.lesion * lesion_loss(
                    out.lesion, adaptive_avg_pool2d(drawn, cells), scanned, batch.drawn
                )
            if loss.evidence > 0:
                own = self.network.head.weight[batch.labels]
                for_class = torch.einsum("nd,ndhw->nhw", own, out.evidence)
                if out.spatial_weights is not None:
                    for_class = distribute_within_cells(for_class, out.spatial_weights)
                share = adaptive_avg_pool2d(drawn, (for_class.shape[1], for_class.shape[2]))
                terms["evidence"] = loss.evidence * stray_evidence(for_class, share)
        return terms

    def _distillation_terms(
        self, teachers: Teachers, entropy: Tensor, out: NetworkOutput, batch: Batch
    ) -> dict[str, Tensor]:
        """The loss of the labels and of the teachers, of the same views; the teachers read them as they were drawn."""
        options = self.recipe.teacher
        logits, cosines = teachers.read(batch.canvases)
        shut = ~batch.known
        distilled = distillation(
            out.logits.masked_fill(shut, -1e4), logits.masked_fill(shut, -1e4), temperature=options.temperature
        )
        return {
            "entropy": (1 - options.weight) * entropy,
            "teacher": options.weight * distilled,
            "similarity": options.similarity * same_similarity(out.embedding, cosines),
        }

    def _resized(self, canvases: Tensor, lesions: Tensor) -> tuple[Tensor, Tensor]:
        """The batch at the side that the network reads, or at a multiple of its stride, drawn by the step's number."""
        reach = self.recipe.augmentation.resolution
        side, stride = input_side(self.recipe), self.network.stride
        if reach > 0:
            low, high = math.ceil(side * (1 - reach) / stride), math.floor(side * (1 + reach) / stride)
            chance = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.global_step)
            side = stride * int(torch.randint(low, high + 1, (), generator=chance))
        if side == canvases.shape[-1]:
            return canvases, lesions
        size = (side, side)
        scanned = interpolate((canvases >= 0).to(canvases.dtype), size, mode="area")
        grey = interpolate(canvases.clamp(min=0), size, mode="bilinear", antialias=True)
        resized = torch.where(scanned > 0.5, (grey / scanned.clamp(min=0.5)).clamp(0, 1), -torch.ones_like(grey))
        return resized, interpolate(lesions.to(canvases.dtype), size, mode="area")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the running mean; early on it follows faster, so that it does not remember the random start."""
        del outputs, batch, batch_idx
        if self.average is not None:
            seen = int(self.average.n_averaged)
            decay = min(self.recipe.optimiser.average, (1 + seen) / (10 + seen))
            self.average.multi_avg_fn = _mean_with(decay)
            self.average.update_parameters(self.network)

    def _run(self, network: nn.Module, canvases: Tensor) -> NetworkOutput:
        """Its layers compute in `lower`; what comes out is float32, and so is all that is made of it."""
        with torch.autocast(self.device.type, dtype=self.lower or torch.bfloat16, enabled=self.lower is not None):
            out: NetworkOutput = network(canvases.contiguous(memory_format=torch.channels_last))
        lesion = None if out.lesion is None else out.lesion.float()
        return NetworkOutput(
            out.logits.float(), out.embedding.float(), out.evidence.float(), lesion, out.spatial_weights
        )

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Figures of the averaged weights."""
        del batch_idx
        canvases, labels = batch
        logits = self._run(self.averaged, smaller(canvases) if self.recipe.close_up else canvases).logits
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
        rest = [p for p in self.network.parameters() if p.requires_grad and id(p) not in ids]
        rest += [] if self.descriptors is None else list(self.descriptors.parameters())
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


def close_unlearnt(network: EvidenceNetwork, known: Tensor) -> None:
    """Keep a network from predicting a class that no archive could have shown it: its logit is set far below any other.

    Args:
        network: changed in place.
        known: bool (C,).
    """
    with torch.no_grad():
        network.head.weight[~known] = 0.0
        network.head.bias[~known] = UNLEARNT


def _mean_with(decay: float) -> Any:
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch publishes no types for it
