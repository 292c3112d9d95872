"""`sonoseek evaluate` as a user types it."""

import bz2
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import pytest

NO_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning", "torchmetrics", "onnx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from sonoseek.apps.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def results(archive: Path, process, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that ships and a peer, on a folder of phantoms that neither has seen."""
    folder = tmp_path_factory.mktemp("evaluated")
    arguments = ["evaluate", "--protocol", "external", "--test-on", f"folder={archive}", "--bundle", "fast"]
    places = ("--runs", "runs", "--out", "out", "--robustness")
    done = process(*arguments, *places, cwd=folder, without="SONOSEEK_", python=("-c", NO_TORCH))
    assert "accuracy" in done.stdout
    assert "0 of 30 scans were in the training data of sonoseek-outline" in done.stderr
    return folder / "out"


class Links(HTMLParser):
    """Every place that a page points to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.found.append(value)
            if name == "id" and value:
                self.ids.add(value)


def test_a_bundle_is_scored_on_one_s_own_archive_without_torch(results: Path) -> None:
    folder = results / "external-bundle-to-folder"
    (metrics,) = json.loads((folder / "scores.json").read_text())["systems"].values()
    assert metrics["counts"]["scans"] == 30
    assert metrics["classification"]["accuracy"]["pooled"] > 0.6
    assert "retrieval" not in metrics  # what the bundle has learnt from is not at hand
    assert metrics["made"]["command"].endswith("--test-on folder --bundle fast --robustness")
    assert set(metrics["robustness"]) >= {"unchanged", "gain-up", "aspect"}
    names = {"cases.csv.bz2", "rows.csv.bz2", "rounds.csv.bz2", "about.json", "scores.json", "curves.svg", ".lock"}
    assert {path.name for path in folder.iterdir()} == names
    for path in (*results.rglob("*.json"), *results.rglob("*.bz2"), *results.rglob("*.svg"), results / "index.html"):
        content = path.read_bytes()
        text = bz2.decompress(content) if path.suffix == ".bz2" else content
        assert str(results.parent).encode() not in text, "no path of this machine"


def test_the_page_leads_to_every_file_and_loads_nothing(results: Path) -> None:
    page = Links()
    text = (results / "index.html").read_text()
    page.feed(text)
    for link in page.found:
        assert "//" not in link
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert (results / link).is_file(), link
    assert "Content-Security-Policy" in text
    assert "not for diagnosis" in text
    assert "99 %" in text
    assert (results / "conditions.webp").is_file()


def test_results_are_scored_again_alike(results: Path, run) -> None:
    before = {path: path.read_text() for path in (*results.rglob("*.json"), results / "index.html")}
    told = run("evaluate", "--rescore", results).stdout
    assert "accuracy" in told
    for path, text in before.items():
        assert path.read_text() == text, path


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "give --protocol NAME"),
        (("--protocol", "busi-groped"), "nothing is named to be scored"),
        (("--protocol", "busi-groped", "--system", "radiomics"), "Did you mean 'busi-grouped'"),
        (("--protocol", "busi-grouped", "--system", "radiomics"), "SONOSEEK_DATA"),
        (("--protocol", "busi-grouped", "--system", "x", "--test-on", "busi"), "has its own"),
        (("--protocol", "external", "--train-on", "busi", "--test-on", "busi", "--system", "x"), "not seen"),
        (("--protocol", "external", "--test-on", "hospital", "--system", "x"), "no dataset is called"),
        (("--protocol", "external", "--test-on", "folder=x", "--bundle", "nowhere"), "there is no folder nowhere"),
        (("--rescore", "nowhere"), "Evaluate a system first"),
        (("--protocol", "busi-grouped", "--of", "busi-clean", "--system", "x"), "leave it out of 'busi-grouped'"),
        (("--protocol", "explanations", "--of", "busi-cleen", "--bundle", "fast"), "Did you mean 'busi-clean'"),
        (("--protocol", "explanations", "--of", "external", "--bundle", "fast"), "no rounds by seed"),
        (("--protocol", "explanations", "--seeds", "1,2", "--bundle", "fast"), "--seeds lists 1, 2"),
        (("--protocol", "explanations", "--of", "busi-clean", "--test-on", "busi", "--bundle", "fast"), "--test-on"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[str, ...], why: str, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("SONOSEEK_")]:
        monkeypatch.delenv(name)
    done = run("evaluate", *arguments, ok=False, cwd=tmp_path)
    assert done.returncode == 2
    assert why in done.stderr


def test_an_unknown_system_says_what_there_is(archive: Path, run, tmp_path: Path) -> None:
    arguments = ["evaluate", "--protocol", "external", "--train-on", "phantom", "--test-on", f"folder={archive}"]
    told = run(*arguments, "--system", "nobody", "--runs", tmp_path, ok=False, cwd=tmp_path).stderr
    assert "no system is called 'nobody'; there are: nearest-pixels, radiomics, frozen-squeezenet" in told
    assert "--seeds holds 'x'" in run(*arguments, "--system", "radiomics", "--seeds", "0,x", ok=False).stderr
