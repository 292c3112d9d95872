"""Where a run computes, and what it leaves behind while it does: nothing here changes what a recipe means."""

from __future__ import annotations

from dataclasses import dataclass, field

from sonoseek.core import InvalidValueError

ACCELERATORS = ("auto", "cpu", "gpu")
PRECISIONS = ("32", "bf16", "16")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to compute.

    Attributes:
        accelerator: "cpu", "gpu", or "auto": a GPU where there is one.
        devices: processes per node, one GPU or one share of the cores each; the batch of the recipe is split over all.
        nodes: machines; above 1 each is started by a launcher such as torchrun.
        precision: of the layers' arithmetic in training: "32", "bf16", or "16" (GPU only). Weights, losses, figures
            and the bundle are float32 at each of them.
    """

    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    precision: str = "32"

    def __post_init__(self) -> None:
        for name, known in (("accelerator", ACCELERATORS), ("precision", PRECISIONS)):
            if (value := getattr(self, name)) not in known:
                raise InvalidValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}. Choose one.")
        if min(self.devices, self.nodes) < 1:
            raise InvalidValueError(f"devices is {self.devices} and nodes {self.nodes}; both must be at least 1.")

    @property
    def processes(self) -> int:
        """In all."""
        return self.devices * self.nodes


@dataclass(frozen=True, kw_only=True)
class DivergenceRule:
    """When a run has gone wrong for good.

    Attributes:
        factor, steps: the loss stood above `factor` times its running median for `steps` steps in a row.
        window: steps that the median is taken over; the rule waits until half of them are there.
        floor: the median counts as at least this much: near 0 a multiple means nothing.
    """

    factor: float = 10.0
    steps: int = 20
    window: int = 100
    floor: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What a run keeps of itself on the way.

    Attributes:
        checkpoint_minutes: between checkpoints within an epoch; each epoch's end is kept as well.
        checkpoint_steps: the same in steps; 0: by the clock alone.
        log_steps: between rows of `metrics.csv` within an epoch; each epoch has its row as well.
        tensorboard: whether to write `tensorboard/`: curves, and a sheet of heatmaps per epoch. It holds scans.
        rule: when to stop a run that diverges. A loss that is no number stops it at once.
    """

    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    log_steps: int = 10
    tensorboard: bool = False
    rule: DivergenceRule = field(default_factory=DivergenceRule)

    def __post_init__(self) -> None:
        if not self.checkpoint_minutes > 0 or self.checkpoint_steps < 0 or self.log_steps < 1:
            raise InvalidValueError(
                f"checkpoint_minutes is {self.checkpoint_minutes}, checkpoint_steps {self.checkpoint_steps} and "
                f"log_steps {self.log_steps}; they must be positive, at least 0 and at least 1. Correct them."
            )


CPU = Machine()
USUAL = Upkeep()
