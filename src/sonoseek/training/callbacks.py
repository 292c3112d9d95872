"""The log of a run while it trains: progress bar, table, curves, and the figures of each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from sonoseek.training import distributed
from sonoseek.training.batches import TrainingBatches
from sonoseek.training.divergence import DivergenceCheck
from sonoseek.training.heatmap_sheet import Examples, draw_sheet
from sonoseek.training.options import Upkeep
from sonoseek.training.tracking import CSV_FILE, TENSORBOARD_FOLDER, Board, CsvLog

LEFT = "min_left"
LOSS = "loss"


class RunLog(Callback):
    """Counts steps, estimates the minutes left, stores each step's and epoch's figures, stops a run that diverges.

    The means over an epoch are its own, not Lightning's: they survive a kill within an epoch.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        on_progress: Callable[[int, int], None] | None,
        *,
        run_dir: Path,
        upkeep: Upkeep,
        examples: Examples | None = None,
    ) -> None:
        """Log a run over `batches`; `examples` are drawn with their heatmaps where TensorBoard is wanted."""
        self._batches = batches
        self._on_progress = on_progress
        self._run_dir = run_dir
        self._upkeep = upkeep
        self._examples = examples
        self._divergence = DivergenceCheck(upkeep.rule)
        self._began = (time.monotonic(), 0)
        self._sums: dict[str, float] = {}
        self._scans = 0
        self._rates: dict[str, float] = {}
        self._table: CsvLog | None = None
        self._board: Board | None = None
        self.epochs: list[dict[str, float]] = []

    @property
    def state_key(self) -> str:
        """Of this state in a checkpoint: the name that runs of older versions have stored it under."""
        return "Watch"

    def state_dict(self) -> dict[str, Any]:
        """Stored in the checkpoint."""
        return {"epochs": self.epochs, "sums": self._sums, "seen": self._scans, "guard": self._divergence.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read from the checkpoint."""
        self.epochs = list(state_dict["epochs"])
        self._sums, self._scans = dict(state_dict["sums"]), int(state_dict["seen"])
        self._divergence.load_state_dict(state_dict["guard"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, after the steps of an earlier run; open the table and the board behind them."""
        del pl_module
        self._began = (time.monotonic(), trainer.global_step)
        if trainer.is_global_zero:
            self._table = CsvLog(self._run_dir / CSV_FILE, step=trainer.global_step)
            if self._upkeep.tensorboard:
                self._board = Board(self._run_dir / TENSORBOARD_FOLDER, step=trainer.global_step)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rates that this step goes by."""
        del pl_module, batch, batch_idx
        groups = trainer.optimizers[0].param_groups
        self._rates = {f"lr_{group.get('name', number)}": float(group["lr"]) for number, group in enumerate(groups)}

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss, add the terms up, show the minutes left."""
        del batch_idx
        values = _terms(pl_module, outputs)
        done = trainer.global_step
        self._divergence.check(values[LOSS], epoch=trainer.current_epoch, step=done)
        weight = len(batch[1])
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + weight * value
        self._scans += weight
        if done % self._upkeep.log_steps == 0:
            self._write("step", trainer, {**values, **self._rates})
        total = (trainer.max_epochs or 1) * len(self._batches)
        start, before = self._began
        per_step = (time.monotonic() - start) / max(1, done - before)
        pl_module.log(LEFT, (total - done) * per_step / 60, prog_bar=True, on_step=True, batch_size=1)
        if self._on_progress is not None:
            self._on_progress(done, total)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Store the figures: validation has run by now."""
        figures = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name != LEFT and not math.isnan(value)
        }
        figures.update({name: total / max(1, self._scans) for name, total in self._sums.items()})
        self._sums, self._scans = {}, 0
        seconds = time.monotonic() - self._began[0]
        self._write("epoch", trainer, {**figures, **self._rates})
        if self._board is not None and self._examples:
            self._board.picture("heatmaps", draw_sheet(pl_module.averaged, self._examples), step=trainer.global_step)  # type: ignore[arg-type]
        self.epochs.append({"epoch": trainer.current_epoch, **figures, "seconds_since_start": round(seconds, 1)})

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Close the board, after a failure too."""
        del trainer, pl_module, stage
        if self._board is not None:
            self._board.close()
            self._board = None

    def _write(self, kind: str, trainer: lightning.Trainer, values: Mapping[str, float]) -> None:
        if self._table is not None:
            self._table.add(kind, epoch=trainer.current_epoch, step=trainer.global_step, values=values)
        if self._board is not None:
            self._board.curves(values, step=trainer.global_step, group=kind)


def _terms(module: lightning.LightningModule, outputs: Any) -> dict[str, float]:
    """The step's loss and what it is made of (`module.terms`), mean over the processes; one wait for the device."""
    terms: dict[str, torch.Tensor] = {LOSS: outputs[LOSS], **getattr(module, "terms", {})}
    stacked = torch.stack([term.detach().float() for term in terms.values()])
    return dict(zip(terms, distributed.mean_over_processes(stacked).tolist(), strict=True))
