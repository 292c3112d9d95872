"""`sonoseek doctor`: check this installation."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from sonoseek.apps.cli.options import Bundle
from sonoseek.core import Settings
from sonoseek.core.version import __version__

PARTS = {
    "search, explain, report": ("numpy", "onnxruntime", "opencv-python-headless", "pillow"),
    "DICOM": ("pydicom", "python-gdcm", "pyjpegls"),
    "[train]": ("torch", "lightning", "onnx"),
    "[evaluate]": ("scikit-learn", "scipy", "matplotlib"),
}
OPTIONAL = ("[train]", "[evaluate]")


def doctor(
    bundle: Bundle = None,
) -> None:
    """Check packages, settings, the bundle and one query from end to end; exit 2 if anything needed fails."""
    from sonoseek.apps.cli.show import table

    rows: list[tuple[str, str, str]] = [("ok", "sonoseek", __version__), ("ok", "python", platform.python_version())]
    for part, packages in PARTS.items():
        installed, missing = _versions(packages)
        mark = "ok" if not missing else "-" if part in OPTIONAL else "FAILS"
        rows.append(
            (mark, part, "; ".join(filter(None, (installed, f"missing: {', '.join(missing)}" if missing else ""))))
        )
    for name, check in (
        ("settings", _settings),
        ("DICOM decoders", _decoders),
        ("limits of parsing", _limits),
        ("bundle", lambda: _bundle(bundle)),
        ("one query", lambda: _query(bundle)),
    ):
        rows.append(_try(name, check))
    table(("", "", ""), rows)
    if any(mark == "FAILS" for mark, _, _ in rows):
        raise typer.Exit(2)


def _versions(packages: tuple[str, ...]) -> tuple[str, list[str]]:
    installed, missing = [], []
    for package in packages:
        try:
            installed.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    return ", ".join(installed), missing


def _try(name: str, check: Callable[[], str]) -> tuple[str, str, str]:
    try:
        return "ok", name, check()
    except Exception as error:  # every failure is listed
        return "FAILS", name, f"{type(error).__name__}: {error}"


def _settings() -> str:
    settings = Settings.from_environment()
    return f"data {settings.data or 'not set'}, cache {settings.cache}, threads {settings.threads or 'all'}"


def _decoders() -> str:
    from pydicom.pixels import get_decoder  # type: ignore[attr-defined]  # exported at run time
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

    kinds = {
        "RLE": RLELossless,
        "JPEG": JPEGBaseline8Bit,
        "JPEG lossless": JPEGLosslessSV1,
        "JPEG-LS": JPEGLSLossless,
        "JPEG 2000": JPEG2000Lossless,
    }
    missing = [name for name, uid in kinds.items() if not get_decoder(uid).is_available]
    if missing:
        raise LookupError(f"no decoder for {', '.join(missing)}; install sonoseek's own dependencies again")
    return ", ".join(kinds)


def _limits() -> str:
    from sonoseek.io.sandbox import protections

    settings = Settings.from_environment()
    missing = protections()
    lacks = f"; this system lacks {', '.join(missing)}" if missing else ", no new file, no new process, no network"
    return f"{settings.read_timeout_s:g} s of the processor and {settings.read_memory_mb} MiB a file{lacks}"


def _bundle(path: Path | None) -> str:
    from sonoseek.encoder import load_bundle

    bundle = load_bundle(path)
    size = f"model input {bundle.recipe.canvas_size} px, embedding {bundle.embedding_dim}"
    return f"{bundle.bundle_id}: {', '.join(bundle.classes)}; {size}"


def _query(path: Path | None) -> str:
    import time

    from sonoseek.datasets.phantom import make_phantom
    from sonoseek.engine import open_engine

    engine = open_engine(bundle=path)
    scan = make_phantom(1, pathology="malignant").scans[0]
    engine.query(scan, k=0)
    start = time.perf_counter()
    report = engine.query(scan, k=0)
    took = 1e3 * (time.perf_counter() - start)
    label = report.prediction.label or "not sure"
    return f"ran from end to end in {took:.0f} ms (a malignant phantom; the prediction: {label})"
