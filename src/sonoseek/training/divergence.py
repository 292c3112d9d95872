"""A run that has gone wrong stops and says why, instead of training on for hours."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

from sonoseek.core import TrainingError
from sonoseek.training.options import DivergenceRule

SHOWN = 8
"""Losses that a message quotes."""
REMEDY = (
    "Look at metrics.csv, lower lr and backbone_lr in the recipe (ten times at first) or clip harder, and start a new "
    "run; the last good checkpoint stays."
)


class DivergenceCheck:
    """Checks one loss after another."""

    def __init__(self, rule: DivergenceRule) -> None:
        """Check by `rule`."""
        self._rule = rule
        self._losses: deque[float] = deque(maxlen=rule.window)
        self._above = 0

    def state_dict(self) -> dict[str, Any]:
        """Stored in the checkpoint: a resumed run is checked as an unbroken one."""
        return {"losses": list(self._losses), "above": self._above}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read from the checkpoint."""
        self._losses = deque(state_dict["losses"], maxlen=self._rule.window)
        self._above = int(state_dict["above"])

    def check(self, loss: float, *, epoch: int, step: int) -> None:
        """Take in the loss of a step.

        Raises:
            TrainingError: it is no number, or the rule says that the run diverges.
        """
        usual = self._usual()
        self._losses.append(loss)
        if not math.isfinite(loss):
            raise self._error("the loss is no number; it must be finite", epoch=epoch, step=step)
        rule = self._rule
        self._above = self._above + 1 if usual is not None and loss > rule.factor * usual else 0
        if usual is not None and self._above >= rule.steps:
            raise self._error(
                f"the loss has stood above {rule.factor:g} × its median of the last {rule.window} steps ({usual:.4g}) "
                f"for {rule.steps} steps; that is taken as divergence",
                epoch=epoch,
                step=step,
            )

    def _usual(self) -> float | None:
        """The running median; None while there are too few steps for one."""
        if len(self._losses) < max(1, self._rule.window // 2):
            return None
        return max(self._rule.floor, median(self._losses))

    def _error(self, what: str, *, epoch: int, step: int) -> TrainingError:
        last = ", ".join(f"{loss:.4g}" for loss in list(self._losses)[-SHOWN:])
        return TrainingError(f"epoch {epoch}, step {step}: {what}. The last losses: {last}. {REMEDY}")
