"""The results in the repository: every figure comes out of the rows again, and the page leads to them."""

import bz2
import json
import re
import time
from pathlib import Path

import pytest

from sonoseek.evaluate import PROTOCOLS, rescore
from sonoseek.evaluate.page import write_page
from sonoseek.evaluate.rescoring import ScoredProtocol
from sonoseek.evaluate.rows import ScanRow
from sonoseek.evaluate.tables import LOCK, place_rows, read_systems

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
SECONDS = 30


@pytest.fixture(scope="module")
def again() -> tuple[dict[str, ScoredProtocol], float]:
    began = time.process_time()
    return rescore(RESULTS, write=False), time.process_time() - began


def nearly(found: object, wanted: object, where: str) -> None:
    """Equal, numbers to the last digit that is kept: another BLAS rounds otherwise."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), where
        assert found.keys() == wanted.keys(), where
        for name in wanted:
            nearly(found[name], wanted[name], f"{where}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(found, list | tuple), where
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            nearly(a, b, f"{where}[{i}]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=2e-5), where
    else:
        assert found == wanted, where


@pytest.mark.slow
def test_every_committed_figure_comes_out_again_in_time(again: tuple[dict[str, ScoredProtocol], float]) -> None:
    scored, seconds = again
    systems = [system for protocol in scored.values() for system in protocol.systems.values()]
    assert len(systems) >= 40
    for system in systems:
        assert system.metrics["system"]["name"] == system.name
    for name, protocol in scored.items():
        committed = json.loads((protocol.folder / "scores.json").read_text())
        assert protocol.about == committed["protocol"]
        assert list(protocol.systems) == list(committed["systems"])
        for each, system in protocol.systems.items():
            nearly(json.loads(json.dumps(system.metrics)), committed["systems"][each], f"{name}/{each}")
        nearly(json.loads(json.dumps(list(protocol.compared))), committed["comparisons"], name)
    # of processor time, over all cores: a machine that is busy otherwise must not fail this
    assert seconds < 3 * SECONDS


@pytest.mark.slow
def test_every_protocol_has_results_of_every_peer(again: tuple[dict[str, ScoredProtocol], float]) -> None:
    scored, _ = again
    for name in PROTOCOLS:
        if name == "reader-marked":  # the peers read no marks
            continue
        found = [protocol for key, protocol in scored.items() if key == name or key.startswith(f"{name}-")]
        assert found, name
        for protocol in found:
            assert {"nearest-pixels", "radiomics", "frozen-squeezenet"} <= set(protocol.systems)
            assert protocol.about["guarded"] is (name not in ("random-split", "paper-like"))
    for name in ("busi-grouped", "random-split", "paper-like"):
        assert "first-hybrid" in scored[name].systems


@pytest.mark.slow
def test_guarded_protocols_leak_nothing_and_the_others_do(again: tuple[dict[str, ScoredProtocol], float]) -> None:
    for protocol in again[0].values():
        for system in protocol.systems.values():
            leaking = system.metrics["counts"]["leaking_share"]
            assert (leaking == 0) is protocol.about["guarded"]


@pytest.mark.slow
def test_the_committed_page_is_that_of_the_rows(again: tuple[dict[str, ScoredProtocol], float], tmp_path: Path) -> None:
    text = (RESULTS / "index.html").read_text()
    for link in re.findall(r'(?:src|href)="([^"#]+)"', text):
        assert (RESULTS / link).is_file(), link
    wanted = write_page(tmp_path, again[0]).read_text()
    numbers = re.compile(r"\d+\.\d+")
    assert numbers.sub("", wanted) == numbers.sub("", text)
    differing = [
        pair for pair in zip(numbers.findall(wanted), numbers.findall(text), strict=True) if pair[0] != pair[1]
    ]
    assert all(abs(float(a) - float(b)) <= 0.0015 for a, b in differing)


def committed() -> list[Path]:
    return [path for path in RESULTS.rglob("*") if path.is_file() and path.name != LOCK]


def test_results_name_no_machine_and_show_no_scan() -> None:
    for path in committed():
        assert path.suffix in {".bz2", ".json", ".svg", ".md", ".html", ".webp"}, path
        if path.suffix != ".webp":
            text = bz2.decompress(path.read_bytes()).decode() if path.suffix == ".bz2" else path.read_text()
            assert not re.search(r"/(home|root|work|tmp)/", text), path
    assert [path.name for path in RESULTS.rglob("*.webp")] == ["conditions.webp"]  # a phantom


def test_results_stay_small() -> None:
    assert len(committed()) <= 120
    assert sum(path.stat().st_size for path in committed()) <= 8_000_000


def test_tables_are_what_this_code_writes(tmp_path: Path) -> None:
    """Rows are read and written again without another byte: no digit is lost."""
    for path in sorted(RESULTS.rglob("rows.csv.bz2"), key=lambda path: path.stat().st_size)[:2]:
        for system, rows_of_it in read_systems(path, ScanRow).items():
            place_rows(tmp_path / path.parent.name, ScanRow, rows_of_it, system=system)
        assert bz2.decompress((tmp_path / path.parent.name).read_bytes()) == bz2.decompress(path.read_bytes())


def test_every_committed_figure_of_heatmaps_comes_out_again_and_stands_in_the_docs() -> None:
    from sonoseek.evaluate.explaining.page import TABLE
    from sonoseek.evaluate.explaining.rows import MapRow, OutlineRow, PairRow
    from sonoseek.evaluate.explaining.summary import MAPS, OUTLINES, PAIRS, summarise

    folders = [file.parent for file in sorted(RESULTS.glob(f"explanations/*/{MAPS}"))]
    assert folders
    page = (RESULTS / "explanations.md").read_text()
    for folder in folders:
        tables = [read_systems(folder / n, k) for n, k in ((MAPS, MapRow), (PAIRS, PairRow), (OUTLINES, OutlineRow))]
        commands = {
            n: a["made"]["command"] for n, a in json.loads((folder / "about.json").read_text())["systems"].items()
        }
        for name, kept in json.loads((folder / "scores.json").read_text())["systems"].items():
            found = json.loads(json.dumps(summarise(*(table.get(name, ()) for table in tables))))
            nearly(found, {key: kept[key] for key in found}, name)
            table = (folder / name / TABLE).read_text()
            methods = {line.split("|")[1].strip() for line in rows(table)}
            assert "class evidence (ours)" in methods
            if "--no-peers" not in commands[name]:
                assert {"Grad-CAM", "HiResCAM", "RISE", "occlusion"} <= methods
            if name == "hybrid-alone":
                assert set(rows(table)) <= set(rows(page))


def rows(text: str) -> list[str]:
    """Lines of tables, but for headings' rules."""
    return [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
