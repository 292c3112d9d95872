"""The global random generators of torch, numpy and Python: seeded for a run, stored with it, restored after it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def seeded(seed: Sequence[int]) -> Iterator[None]:
    """Draw from `seed` inside, and from where one was before afterwards."""
    before = random_state()
    seed_all(seed)
    try:
        yield
    finally:
        set_random_state(before)


def seed_all(seed: Sequence[int]) -> None:
    """Seed all of them."""
    words = np.random.SeedSequence(tuple(seed)).generate_state(3)
    torch.manual_seed(int(words[0]))  # its GPUs too
    np.random.seed(int(words[1]))  # noqa: NPY002 - the global one is what others draw from
    random.seed(int(words[2]))


def random_state() -> dict[str, Any]:
    """State of the generators of torch, its GPUs, numpy and Python, as values that load without pickle."""
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002 - the global one is what others draw from
    kind, keys, *rest = state
    version, inner, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "gpus": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(kind), torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": [version, list(inner), gauss],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set them."""
    torch.set_rng_state(state["torch"].cpu())
    if len(state["gpus"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([gpu.cpu() for gpu in state["gpus"]])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002 - as above
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
