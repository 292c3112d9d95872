"""The hybrid that draws the lesion's outline first, and reads its shape beside the grey values."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from sonoseek.core import InvalidValueError
from sonoseek.networks.evidence import Backbone, EvidenceNetwork, NetworkOutput, evidence_layer, needs_backbone
from sonoseek.networks.focus import FINE, FLOOR, SHAPE_CHANNELS, LesionFocus, relative
from sonoseek.networks.row_context import RowContext


@runtime_checkable
class PyramidBackbone(Protocol):
    """A backbone that also shows its finer maps."""

    pyramid_channels: tuple[int, int, int]

    def pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 1, S, S) → maps of S/4, S/8 and S/16 cells a side; the last is what calling the backbone gives."""
        ...


class OutlineNetwork(EvidenceNetwork):
    """CNN → outline → row GRU → evidence: cells inside the outline weigh more, and its shape is evidence too.

    The evidence of the shape as a whole lies on the cells that make it, so that the embedding still is the plain mean
    of the evidence. Within a cell the evidence lies where the outline was drawn, four pixels fine
    (`NetworkOutput.spatial_weights`). Masks teach the outline in the loss; the network reads none.
    """

    def __init__(
        self,
        backbone: Backbone | None,
        *,
        classes: int = 3,
        embedding_dim: int = 256,
        row_context: bool = True,
        floor: float = FLOOR,
    ) -> None:
        """Make one around `backbone`.

        Args:
            backbone: a module of the table `BACKBONES` that is a `PyramidBackbone`.
            classes: C.
            embedding_dim: D.
            row_context: let a GRU down the depth gate and shift each row; False for the ablation.
            floor: weight of a cell that holds no lesion at all, beside 1 for one that is full of it; above 0, so that a
                scan without a lesion still gives evidence, evenly from everywhere.

        Raises:
            InvalidValueError: no backbone is given, or it shows no finer maps.
        """
        given = needs_backbone(backbone, network="outline")
        if not isinstance(given, PyramidBackbone):
            raise InvalidValueError(
                f"a {type(given).__name__} shows no maps at strides 4 and 8, from which an outline is drawn. "
                "Choose another backbone, such as 'squeezenet', or the network 'hybrid'."
            )
        super().__init__(given)
        self.fine_stride = FINE
        self.floor = floor
        channels = given.channels + SHAPE_CHANNELS
        self.focus = LesionFocus(given.pyramid_channels, embedding_dim)
        self.rows = RowContext(channels) if row_context else None
        self.evidence = evidence_layer(channels, embedding_dim)
        self.head = nn.Linear(embedding_dim, classes)

    def forward(self, canvas: Tensor) -> NetworkOutput:
        """Read canvases, as `EvidenceNetwork`; the output's `lesion` is the drawn outline."""
        self.check_side(canvas)
        validity = self.validity(canvas)
        maps = cast(PyramidBackbone, self.backbone).pyramid(canvas.clamp(min=0))
        scanned = functional.avg_pool2d((canvas >= 0).to(canvas.dtype), FINE)
        outline = self.focus(maps, scanned)
        features = torch.cat([maps[-1], outline.features], dim=1)
        if self.rows is not None:
            features = self.rows(features, validity)
        weight = validity * (self.floor + outline.share)
        evidence = self.evidence(features) * weight / weight.mean((2, 3), keepdim=True).clamp(min=1e-6)
        evidence = evidence + self.focus.shape_evidence(outline) * (validity > 0)
        embedding = evidence.mean((2, 3))
        spatial_weights = relative(scanned * (self.floor + torch.sigmoid(outline.logits)))
        return NetworkOutput(self.head(embedding), embedding, evidence, outline.logits, spatial_weights)
