"""The second step of a run: one fit by Lightning, resumable, with a progress bar."""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy

from sonoseek.training import distributed
from sonoseek.training.batches import PlainBatches, TrainingBatches
from sonoseek.training.callbacks import RunLog
from sonoseek.training.checkpoints import RunCheckpoint, WholeFiles, ended
from sonoseek.training.heatmap_sheet import Examples
from sonoseek.training.logging import quiet_loggers
from sonoseek.training.module import VALIDATION_LOSS, TrainingModule
from sonoseek.training.options import Machine, Upkeep
from sonoseek.training.seeding import seeded

CHECKPOINT = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
_NOISY_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


class _EpochSource:
    """Batches of the epoch that Lightning is in, so that a resumed run draws what an unbroken one would have."""

    def __init__(self, batches: TrainingBatches, module: TrainingModule) -> None:
        self._batches, self._module = batches, module

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        # not current_epoch: a resumed run asks for its first batch before Lightning counts on
        self._batches.epoch, self._batches.start = divmod(self._module.global_step, len(self._batches))
        self._batches.share = distributed.ranks()
        return iter(self._batches)


class _ValidationSource:
    """A process's share of the validation part; the shares together are all of it, once."""

    def __init__(self, batches: PlainBatches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        self._batches.share = distributed.ranks()
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        self._batches.share = distributed.ranks()
        return iter(self._batches)


class _LayersOnly(MixedPrecision):
    """Leaves it to the module to compute the network, and nothing else, in lower precision."""

    def forward_context(self) -> Any:
        return nullcontext()


class _SameEverywhere(Callback):
    """At the end every process must hold the same weights, running statistics of batch norms included."""

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        del trainer
        distributed.check_equal(pl_module)


def fit(
    module: TrainingModule,
    batches: TrainingBatches,
    validation: PlainBatches,
    *,
    run_dir: Path,
    progress_bar: bool,
    on_progress: Callable[[int, int], None] | None,
    machine: Machine | None = None,
    upkeep: Upkeep | None = None,
    examples: Examples | None = None,
) -> list[dict[str, float]]:
    """Train; go on from the checkpoint in `run_dir` if one is there. `module` ends on the CPU with the trained weights.

    Args:
        module: the network to train.
        batches: of the training side.
        validation: of the validation part.
        run_dir: for checkpoints and logs.
        progress_bar: as for `train`.
        on_progress: as for `train`.
        machine: where; one process on the CPU by default.
        upkeep: what to leave behind.
        examples: of the validation part, drawn with their heatmaps where TensorBoard is wanted.

    Returns:
        Figures of each epoch, earlier runs' included.

    Raises:
        TrainingError: the run diverged.
    """
    keep_freed_memory()
    machine, upkeep = machine or Machine(), upkeep or Upkeep()
    checkpoint = run_dir / CHECKPOINT
    patience = module.recipe.optimiser.patience
    run_log = RunLog(batches, on_progress, run_dir=run_dir, upkeep=upkeep, examples=examples)
    if ended(checkpoint):  # and then it was killed: only the steps after the fit are left
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        module.load_state_dict(content["state_dict"])
        run_log.load_state_dict(content["callbacks"][run_log.state_key])
    else:
        callbacks: list[Callback] = [
            run_log,
            _SameEverywhere(),
            *(_early_stopping(run_dir, patience=patience) if patience else ()),
            RunCheckpoint(checkpoint, upkeep, seed=module.recipe.seed),
            *([TQDMProgressBar()] if progress_bar else ()),
        ]
        with quiet_lightning(), seeded((module.recipe.seed, distributed.ranks()[0])):
            trainer = _trainer(module, machine, callbacks=callbacks, run_dir=run_dir, progress_bar=progress_bar)
            trainer.fit(
                module,
                train_dataloaders=_EpochSource(batches, module),
                val_dataloaders=_ValidationSource(validation),
                ckpt_path=checkpoint if checkpoint.is_file() else None,
                weights_only=True,
            )
    module.cpu()
    if patience and distributed.is_first():
        best = torch.load(run_dir / BEST, map_location="cpu", weights_only=True)
        module.load_state_dict(best["state_dict"])
    return run_log.epochs


def _trainer(
    module: TrainingModule, machine: Machine, *, callbacks: list[Callback], run_dir: Path, progress_bar: bool
) -> lightning.Trainer:
    accelerator = distributed.accelerator_of(machine)
    plugins: list[Any] = [WholeFiles()]
    if machine.precision != "32":
        module.lower = torch.bfloat16 if machine.precision == "bf16" else torch.float16
        kind: Any = f"{machine.precision}-mixed"
        plugins.append(_LayersOnly(kind, "cuda" if accelerator == "gpu" else "cpu"))
    return lightning.Trainer(
        accelerator=accelerator,
        devices=machine.devices,
        num_nodes=machine.nodes,
        # the network is free to hold weights that a loss does not reach
        strategy=DDPStrategy(find_unused_parameters=True) if machine.processes > 1 else "auto",
        plugins=plugins,
        max_epochs=module.recipe.optimiser.epochs,
        logger=False,
        callbacks=callbacks,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=module.recipe.optimiser.clip,
        default_root_dir=run_dir,
        use_distributed_sampler=False,
    )


def _early_stopping(run_dir: Path, *, patience: int) -> tuple[Callback, Callback]:
    """Store the epoch of the lowest loss on the validation part; stop when `patience` epochs brought no lower one."""
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
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's tips, and its advice on data loaders that are not used here, from the user."""
    with warnings.catch_warnings(), quiet_loggers(*_NOISY_LOGGERS):
        for module in (r"lightning(\.|$)", r"torch(\.|$)", r"torchmetrics(\.|$)"):
            warnings.filterwarnings("ignore", module=module)
        yield
