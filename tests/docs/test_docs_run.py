"""The blocks of the tutorial and of the README, run one after another as a reader would."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_blocks(page: Path, folder: Path) -> int:
    blocks = BLOCK.findall(page.read_text())
    python = "\n".join(text for language, text in blocks if language == "python")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for text in (text for language, text in blocks if language == "bash"):
        done = subprocess.run(["bash", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    done = subprocess.run([sys.executable, "-c", python], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{python}\n{done.stdout}\n{done.stderr}"
    return len(blocks)


def test_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    assert run_blocks(ROOT / "docs" / "tutorials" / "first-report.md", tmp_path) >= 6
    assert (tmp_path / "report.html").stat().st_size > 10_000
