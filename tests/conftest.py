"""What every test may use."""

import contextlib
import gc
import io
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("SONOSEEK_BUNDLE", "fast")
"""It knows phantoms and answers in a tenth of the time; what the default bundle is held to, its own tests say."""
_STATE = tempfile.TemporaryDirectory(prefix="sonoseek-tests-")
os.environ["SONOSEEK_SITE_KEY"] = str(Path(_STATE.name) / "site.key")
"""No test makes or reads the user's own key."""


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: no collection looks at it, which late took seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real scans, or a skip that says why."""
    folder = os.environ.get("SONOSEEK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real scans are looked for under $SONOSEEK_DATA, which is not set to a folder")
    return Path(folder).resolve()


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def sonoseek_here() -> Command:
    """`sonoseek ARGUMENTS` in this process, in `cwd` where one is given: a tenth of the time of a new process.

    Folder and `sys.argv` are as before when it returns. An error that the command line does not expect is raised.
    """
    from sonoseek.apps.cli.main import main

    def call(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = ["sonoseek", *map(str, arguments)]
        code, out, err = 0, io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patched,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patched.setattr(sys, "argv", command)
            if cwd is not None:
                patched.chdir(cwd)
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def marking_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny untrained bundle that reads marks; a skip where there is no torch to export it with."""
    torch = pytest.importorskip("torch")
    from sonoseek.networks.lesion_pooling import LesionPoolingNetwork
    from sonoseek.networks.tiny import TinyBackbone
    from sonoseek.networks.two_readings import TwoReadings
    from sonoseek.preprocessing import PreprocessingRecipe
    from sonoseek.training.export import BundleMetadata, export_bundle

    metadata = BundleMetadata(
        name="marking",
        version="1",
        classes=("normal", "benign", "malignant"),
        preprocessing=PreprocessingRecipe(canvas_size=128),
        temperature=1.0,
        abstain_below=0.3,
        conformal={"level": 0.9, "quantile": 0.9},
        operating_points={"sensitivity_98": {"threshold": 0.11, "sensitivity": 0.98, "specificity": 0.5}},
        training={"cases": {"phantom": ["phantom-99-0"]}},
        licences={},
        duplicate_threshold=0.9999999,  # to an untrained network all scans are alike
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TwoReadings(LesionPoolingNetwork(TinyBackbone(), embedding_dim=16)).eval()
    with torch.no_grad():
        network.head.weight *= 20  # untrained logits hardly differ
    return export_bundle(network, folder=tmp_path_factory.mktemp("marking"), metadata=metadata)


@pytest.fixture(scope="module", autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """A server sets levels and handlers for its whole process: tests of another file must find their log."""

    def named() -> dict[str, logging.Logger]:
        return {n: each for n, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}

    before = {name: (each.level, each.handlers[:], each.propagate) for name, each in named().items()}
    yield
    for name, each in named().items():
        level, each.handlers, each.propagate = before.get(name, (logging.NOTSET, each.handlers, True))
        each.setLevel(level)


@pytest.fixture(scope="module", autouse=True)
def pynetdicom_as_it_comes() -> Iterator[None]:
    """A listener sets switches for its whole process: tests of another file must not have them."""
    yield
    config, messages = (sys.modules.get(f"pynetdicom.{name}") for name in ("_config", "dimse_messages"))
    if config is not None and messages is not None:
        for name in ("STORE_RECV_CHUNKED_DATASET", "STORE_SEND_CHUNKED_DATASET", "UNRESTRICTED_STORAGE_SERVICE"):
            setattr(config, name, False)
        messages.NamedTemporaryFile = tempfile.NamedTemporaryFile  # type: ignore[attr-defined]
