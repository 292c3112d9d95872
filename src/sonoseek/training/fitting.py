"""One fit by Lightning: quiet, resumable, with a bar that says how long it still takes."""

from __future__ import annotations

import ctypes
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar

from sonoseek.training.batches import PlainBatches, TrainingBatches
from sonoseek.training.module import VALIDATION_LOSS, TrainingModule
from sonoseek.training.quiet import quiet_loggers

CHECKPOINT = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
_NOISY_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


class Watch(Callback):
    """Counts steps, says how many minutes are left, keeps each epoch's figures."""

    def __init__(self, batches: TrainingBatches, on_progress: Callable[[int, int], None] | None) -> None:
        """Watch a run over `batches`."""
        self._batches = batches
        self._on_progress = on_progress
        self._began = (time.monotonic(), 0)
        self.epochs: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read from the checkpoint."""
        self.epochs = list(state_dict["epochs"])

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, after the steps of an earlier run."""
        del pl_module
        self._began = (time.monotonic(), trainer.global_step)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say what is left."""
        del outputs, batch, batch_idx
        total = trainer.max_epochs or 1
        total *= len(self._batches)
        start, before = self._began
        done = trainer.global_step
        per_step = (time.monotonic() - start) / max(1, done - before)
        pl_module.log("min_left", (total - done) * per_step / 60, prog_bar=True, on_step=True, batch_size=1)
        if self._on_progress is not None:
            self._on_progress(done, total)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the figures: validation has run by now."""
        del pl_module
        figures = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name != "min_left" and not math.isnan(value)
        }
        seconds = time.monotonic() - self._began[0]
        self.epochs.append({"epoch": trainer.current_epoch, **figures, "seconds_since_start": round(seconds, 1)})


class _EpochSource:
    """Batches of the epoch that Lightning is in, so that a resumed run draws what an unbroken one would have."""

    def __init__(self, batches: TrainingBatches, module: TrainingModule) -> None:
        self._batches, self._module = batches, module

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        # not current_epoch: a resumed run asks for its first batch before Lightning counts on
        self._batches.epoch = self._module.global_step // len(self._batches)
        return iter(self._batches)


def fit(
    module: TrainingModule,
    batches: TrainingBatches,
    validation: PlainBatches,
    *,
    run_dir: Path,
    progress_bar: bool,
    on_progress: Callable[[int, int], None] | None,
) -> list[dict[str, float]]:
    """Train; go on from the checkpoint in `run_dir` if one is there. `module` ends with the weights to be kept.

    Returns:
        Figures of each epoch, earlier runs' included.
    """
    keep_freed_memory()
    checkpoint = run_dir / CHECKPOINT
    watch = Watch(batches, on_progress)
    patience = module.recipe.optimiser.patience
    callbacks: list[Callback] = [
        watch,
        *(_until_it_gets_worse(run_dir, patience=patience) if patience else ()),
        ModelCheckpoint(
            dirpath=checkpoint.parent,
            filename=checkpoint.stem,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        ),
    ]
    if progress_bar:
        callbacks.append(TQDMProgressBar())
    with quiet():
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=module.recipe.optimiser.epochs,
            logger=False,
            callbacks=callbacks,
            enable_progress_bar=progress_bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            gradient_clip_val=module.recipe.optimiser.clip,
            default_root_dir=run_dir,
        )
        trainer.fit(
            module,
            train_dataloaders=_EpochSource(batches, module),
            val_dataloaders=validation,
            ckpt_path=checkpoint if checkpoint.is_file() else None,
            weights_only=True,
        )
    if patience:
        module.load_state_dict(torch.load(run_dir / BEST, weights_only=True)["state_dict"])
    return watch.epochs


def _until_it_gets_worse(run_dir: Path, *, patience: int) -> tuple[Callback, Callback]:
    """Keep the epoch of the lowest loss on the validation part; stop when `patience` epochs brought no lower one."""
    best = ModelCheckpoint(
        dirpath=(run_dir / BEST).parent,
        filename=BEST.stem,
        monitor=VALIDATION_LOSS,
        mode="min",
        save_top_k=1,
        save_weights_only=True,
        enable_version_counter=False,
    )
    return best, EarlyStopping(monitor=VALIDATION_LOSS, mode="min", patience=patience)


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next batch instead of giving it back to the kernel and asking again.

    Measured: a training step takes half the time. It concerns the whole process, which is why training asks and
    importing does not. Elsewhere than on Linux with glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20)):
        mallopt(option, value)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's tips, and its advice on data loaders that are not used here, from the user."""
    with warnings.catch_warnings(), quiet_loggers(*_NOISY_LOGGERS):
        for module in (r"lightning(\.|$)", r"torch(\.|$)", r"torchmetrics(\.|$)"):
            warnings.filterwarnings("ignore", module=module)
        yield
