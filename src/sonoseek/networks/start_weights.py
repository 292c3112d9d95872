"""Start weights from a file that the user names: checked by sha256, never downloaded, never unpickled."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sonoseek.core import InvalidValueError, NotFoundError


def load_start_weights(path: Path, *, sha256: str = "") -> dict[str, Tensor]:
    """Read a `.safetensors` file.

    Args:
        path: of the file.
        sha256: 64 hex digits that the file must have, or "" to take it as it is.

    Raises:
        NotFoundError: no such file.
        InvalidValueError: another sha256, or not a safetensors file.
    """
    if not path.is_file():
        raise NotFoundError(
            f"no start weights at {path}; a recipe names a .safetensors file that must be there. "
            'Fetch it, correct the path, or write start = "random" to begin without.'
        )
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256.lower():
        raise InvalidValueError(
            f"{path.name} has sha256 {found}; the recipe says {sha256}. Fetch the file again, or correct the recipe."
        )
    try:
        weights: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise InvalidValueError(f"{path.name} is not a safetensors file ({error}). Give one.") from error
    return weights
