"""What every test may use."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ.setdefault("SONOSEEK_BUNDLE", "fast")
"""It knows phantoms and answers in a tenth of the time; what the default bundle is held to, its own tests say."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real scans, or a skip that says why."""
    folder = os.environ.get("SONOSEEK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("real scans are looked for under $SONOSEEK_DATA, which is not set to a folder")
    return Path(folder).resolve()


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, and what it printed."""

    code: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


@pytest.fixture(scope="session")
def sonoseek_here() -> Command:
    """`sonoseek ARGUMENTS` in this process and folder: a tenth of the time of a new one."""
    from sonoseek.apps.cli.main import main

    def call(*arguments: object) -> Ended:
        code, out, err = 0, io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patched,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patched.setattr(sys, "argv", ["sonoseek", *map(str, arguments)])
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Ended(code, out.getvalue(), err.getvalue())

    return call
