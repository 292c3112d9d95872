"""The means of networks that docs/results/networks.md states follow from the rows in docs/results."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import mean_of_networks

ROOT = Path(__file__).parents[2]


def test_the_mean_of_two_divisions_is_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ROOT / "docs" / "results" / "leave-one-hospital-out"
    monkeypatch.setattr(sys, "argv", ["mean_of_networks", str(results), "b4-frozen:1", "b4-frozen:2"])
    mean_of_networks.main()
    first, second, mean = (
        {part.split()[0]: float(part.split()[1]) for part in line.split(": ", 1)[1].replace(";", ",").split(", ")}
        for line in capsys.readouterr().out.splitlines()
    )
    page = (ROOT / "docs" / "results" / "networks.md").read_text()
    stated = " | ".join(f"{mean[name]:.3f}" for name in ("busi", "busbra", "bus-uc"))
    assert f"mean of logits | {stated} | {mean['mean']:.3f}, +0.004" in page
    assert mean["mean"] > max(first["mean"], second["mean"])
