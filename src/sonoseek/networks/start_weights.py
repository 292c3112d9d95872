"""Start weights from a file, or a model of the hub, that the user names: checked by sha256, never unpickled."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.networks.hub import PREFIX, hub_file


def start_weights_path(name: str, *, root: Path | None) -> Path:
    """Where the weights that a recipe names lie.

    Args:
        name: a path, absolute, in `root`, or else in the working folder (another run's network lies there), or
            "hub:<owner>/<model>/<file>", which is fetched where it must be.
        root: folder with start weights; None: the working directory.

    Raises:
        InvalidValueError, MissingExtraError, NotFoundError, TemporaryError: as `hub_file`.
    """
    if name.startswith(PREFIX):
        return hub_file(name)
    if root is None or (Path(name).is_file() and not (root / name).is_file()):
        return Path(name)
    return root / name


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
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256.lower():
        raise InvalidValueError(
            f"{path.name} has sha256 {digest}; the recipe says {sha256}. Fetch the file again, or correct the recipe."
        )
    try:
        weights: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise InvalidValueError(f"{path.name} is not a safetensors file ({error}). Give one.") from error
    return weights
