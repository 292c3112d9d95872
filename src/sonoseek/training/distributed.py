"""The processes of one run: which is the first, and when to wait for the others."""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
from torch import distributed, nn

from sonoseek.core import InvalidValueError, TrainingError
from sonoseek.training.options import Machine

PATIENCE = timedelta(hours=2)
"""How long processes wait for the first one to preprocess the scans, or to calibrate and export between folds."""


def accelerator_of(machine: Machine) -> str:
    """The accelerator to use: "cpu" or "gpu".

    Raises:
        InvalidValueError: a GPU is asked for and none is there; 16 bit on a CPU.
    """
    there = torch.cuda.is_available()
    if machine.accelerator == "gpu" and not there:
        raise InvalidValueError(
            f"accelerator is 'gpu' and torch {torch.__version__} sees no GPU; a build with CUDA and a driver are "
            "needed. Install them, or take 'cpu' or 'auto'."
        )
    chosen = "gpu" if there and machine.accelerator != "cpu" else "cpu"
    if chosen == "cpu" and machine.precision == "16":
        raise InvalidValueError("precision is '16' on a CPU, which computes in 32 or bf16. Choose one of these.")
    return chosen


def launched() -> bool:
    """Whether a launcher such as torchrun has started this process among others."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process writes files, calibrates and exports. True where there is only one."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() == 0
    own = os.environ.get("RANK") if launched() else os.environ.get("LOCAL_RANK")
    return int(own or 0) == 0


def ranks() -> tuple[int, int]:
    """(own number, number of all)."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def join_processes(machine: Machine) -> Machine:
    """Join the other processes of a launcher, until this process ends.

    Where no launcher is at work, Lightning starts the other processes later, once the scans are ready.

    Returns:
        The machine as the launcher has laid it out, or `machine`.

    Raises:
        InvalidValueError: several nodes and no launcher; a launcher with another number of processes than asked for.
    """
    if not launched():
        if machine.nodes > 1:
            raise InvalidValueError(
                f"nodes is {machine.nodes} and no launcher has set RANK and WORLD_SIZE; several nodes need one. On "
                f"each: torchrun --nnodes {machine.nodes} --nproc-per-node {machine.devices} … -m -- sonoseek train …"
            )
        return machine
    size = int(os.environ["WORLD_SIZE"])
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if machine.processes not in (1, size):
        raise InvalidValueError(
            f"{machine.devices} devices on {machine.nodes} nodes are asked for and the launcher has started {size} "
            "processes; the two must agree. Leave --devices and --nodes to the launcher."
        )
    if not distributed.is_initialized():
        gpu = accelerator_of(machine) == "gpu"
        if gpu:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
        atexit.register(_part)
    return replace(machine, devices=here, nodes=max(1, size // here))


def _part() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def first_process_first() -> Iterator[None]:
    """The others enter once the first process has left: it preprocesses the scans, they find them preprocessed."""
    rank, size = ranks()
    if size > 1 and rank > 0:
        distributed.barrier()
    yield
    if size > 1 and rank == 0:
        distributed.barrier()


def mean_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Mean of `values` over the processes; they themselves where there is only one."""
    _, size = ranks()
    if size > 1:
        values = values.clone()
        distributed.all_reduce(values)
        values /= size
    return values


def broadcast_first(own: bool, *, device: torch.device) -> bool:
    """The first process's value."""
    if ranks()[1] == 1:
        return own
    decision = torch.tensor(float(own), device=device)
    distributed.broadcast(decision, src=0)
    return bool(decision.item())


def check_equal(module: nn.Module) -> None:
    """See that every process holds the same weights.

    Raises:
        TrainingError: they do not; what would be exported is not what was validated.
    """
    rank, size = ranks()
    if size == 1:
        return
    digest = hashlib.sha256()
    for tensor in module.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    device = next(module.parameters()).device
    own = torch.tensor(list(digest.digest()), dtype=torch.uint8, device=device)
    all_ = [torch.empty_like(own) for _ in range(size)]
    distributed.all_gather(all_, own)
    if any(not torch.equal(other, own) for other in all_):
        raise TrainingError(
            f"process {rank} of {size} holds other weights than another one; all must hold the same. A network that "
            "changes weights outside the optimiser, or an unreliable link, would do it. Train in one process."
        )
