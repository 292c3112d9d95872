"""What the optional parts of sonoseek need, checked before any work is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from sonoseek.core.errors import MissingExtraError, NotFoundError

EXTRAS = {
    "evaluate": {"scikit-learn": "sklearn", "scipy": "scipy", "scikit-image": "skimage", "matplotlib": "matplotlib"},
    "pacs": {
        "pynetdicom": "pynetdicom",
        "highdicom": "highdicom",
        "dicomweb-client": "dicomweb_client",
        "hl7": "hl7",
        "dicognito": "dicognito",
    },
    "train": {
        name: name
        for name in (
            "torch",
            "lightning",
            "torchmetrics",
            "onnx",
            "onnxscript",
            "safetensors",
            "tensorboard",
            "monai",
            "captum",
        )
    },
}
"""Extra → package, as pip calls it → module. The extras of long work, which must not end in an ImportError."""


def require_extra(extra: str) -> None:
    """See that every package of an extra is there, without importing one.

    Args:
        extra: in `EXTRAS`.

    Raises:
        MissingExtraError: packages are missing; the message names them all, and what installs them.
        NotFoundError: no such extra.
    """
    if extra not in EXTRAS:
        raise NotFoundError(f"no extra is called {extra!r} here; there are: {', '.join(EXTRAS)}.")
    missing = [package for package, module in EXTRAS[extra].items() if not _is_there(module)]
    if missing:
        raise MissingExtraError.for_package(*missing, extra=extra)


@contextmanager
def from_extra(extra: str) -> Iterator[None]:
    """Around imports of packages that an extra brings.

    Args:
        extra: as in `pyproject.toml`.

    Raises:
        MissingExtraError: one of them is not installed; a module of sonoseek itself is no such package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "?").partition(".")[0]
        if module == __name__.partition(".")[0]:
            raise
        packages = {imported: package for package, imported in EXTRAS.get(extra, {}).items()}
        raise MissingExtraError.for_package(packages.get(module, module), extra=extra) from error


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a finder that refuses it; a module without a specification
        return False
