"""Checkpoints of a run: a killed one continues as if it had not been stopped, within an epoch as well."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from sonoseek.core import TrainingError
from sonoseek.core.files import open_atomically
from sonoseek.training import distributed
from sonoseek.training.options import Upkeep
from sonoseek.training.seeding import random_state, seed_all, set_random_state

ENDED = "sonoseek_ended"
"""Key of a checkpoint: whether the fit had ended."""
_PROGRESS = "epoch_loop.batch_progress"


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: a kill while it writes leaves the older one.

    Lightning's own writer goes through the system's temporary folder, often another disk, where a move is a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write all or nothing."""
        del storage_options
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with open_atomically(place) as stream:
            torch.save(checkpoint, stream)


class RunCheckpoint(Checkpoint):
    """Writes the run to one file: at each epoch's end, and every so many minutes or steps between.

    Within an epoch the moment is just before a step: the step before it is over, the running mean of the weights and
    the schedule included, and nothing of the next one has begun.
    """

    def __init__(self, path: Path, upkeep: Upkeep, *, seed: int) -> None:
        """Write to `path`; `seed` is the recipe's."""
        self._path = path
        self._upkeep = upkeep
        self._seed = seed
        self._last = (time.monotonic(), 0)
        self._random_state: dict[str, Any] = {}

    @property
    def state_key(self) -> str:
        """Of this state in a checkpoint: the name that runs of older versions have stored it under."""
        return "Keeper"

    def state_dict(self) -> dict[str, Any]:
        """The state of every random generator; Lightning calls it when it writes a checkpoint."""
        return {"chance": random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold it until training starts: what is set up in between may draw as well."""
        self._random_state = state_dict["chance"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock; random generators continue where they were."""
        del pl_module
        self._last = (time.monotonic(), trainer.global_step)
        rank = distributed.ranks()[0]
        if self._random_state and rank == 0:
            set_random_state(self._random_state)
        elif self._random_state:  # the file holds the first process's state; the others begin anew, each on its own
            seed_all((self._seed, rank, trainer.global_step))

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time; not before an epoch's last step: its end follows."""
        del batch
        if batch_idx == 0 or batch_idx + 1 >= trainer.num_training_batches:
            return
        since, step = self._last
        due = time.monotonic() - since >= 60 * self._upkeep.checkpoint_minutes
        due = distributed.broadcast_first(due, device=pl_module.device)
        steps = self._upkeep.checkpoint_steps
        if due or (steps and trainer.global_step - step >= steps):
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save; all other callbacks have seen the epoch's end."""
        self._save(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Mark whether the fit has ended, and that the step about to begin has not begun."""
        del pl_module
        epochs: int = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]  # narrower stubs
        checkpoint[ENDED] = bool(trainer.should_stop or epochs >= (trainer.max_epochs or 0))
        progress = checkpoint["loops"]["fit_loop"][_PROGRESS]
        for count in (progress["total"], progress["current"]):
            count["ready"] = count["completed"]

    def _save(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    f"epoch {trainer.current_epoch}, step {trainer.global_step}: the weights {name!r} are not finite; "
                    "such a network is not stored, the last good checkpoint is. Lower lr and backbone_lr in the recipe "
                    "and start a new run; metrics.csv shows where the loss left its course."
                )
        trainer.save_checkpoint(self._path)
        self._last = (time.monotonic(), trainer.global_step)


def ended(checkpoint: Path) -> bool:
    """Whether the run that left `checkpoint` had ended its fit."""
    if not checkpoint.is_file():
        return False
    content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return bool(content.get(ENDED, False))
