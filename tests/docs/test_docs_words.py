"""Public names are in the glossary, and words that were replaced do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import typer

import sonoseek as ss
from sonoseek.apps.cli.main import app
from sonoseek.reports import report_schema

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "reference" / "glossary.md").read_text("utf-8")

PLAIN = frozenset(
    re.findall(
        r"\S+",
        """
        __version__ read_scan open_dataset load_bundle open_encoder build_gallery open_gallery open_engine
        SearchEngine write_report Settings SonoseekError errors k data list get check split index build add remove
        info verify backup copy optimise explain train export bench ingest serve demo doctor accelerator accept-
        licence age allow-host archive batch-retention-hours batch-retention-mb cache-minutes calibrate-on checkpoint-
        minutes checkpoint-steps columns count data devices dry-run examples figures folders folds-from force format
        host idle install-completion log-steps match max-batch-mb max-upload-mb most name nodes open out port
        precision queries quiet ray remove results results-of resume root-path rounds runs sample scans seed seeds
        serve show-completion state tensorboard to token-file version workers writable area_mm2 area_pixels cases
        classes created data descriptor distance encoding explanation fitted frames height height_mm labels name
        points scale shape source text total value version width width_mm
        """,
    )
)
"""Names that mean what the word means; all others are terms and stand in the glossary."""

REPLACED = {
    r"verdicts?": "prediction",
    r"precedents?": "similar case",
    r"proven diagnos[ei]s": "reference standard",
    r"strangers?": "out of distribution; other patients",
    r"(un)?familiarity": "ood_score",
    r"near[- _]?cop(y|ies)": "near-duplicate",
    r"own[ _]distances": "reference nearest-neighbour distances",
    r"read_entry": "from_entry",
    r"cleaning|cleaned scans?": "preprocessing",
    r"burned-in marks?": "burned-in annotations",
    r"crews?|hir(e|es|ed|ing)": "worker pool, start",
    r"shel(f|ves)|spool(s|ed)?": "TTL cache, upload store",
    r"SharedWord|BundleSpeaks|part_evidence": "SharedDescriptor, FittedBundle, query_evidence",
    r"scenes?|hardships?": "benchmark context, robustness",
    r"corridors?": "pipeline",
    r"(?<!\.)floors?(?!\()": "layer",
    r"(the|a|any) (lab|clinic)": "training, inference",
    r"told|said|speaks?": "name the content",
}
"""Pattern of a word that was replaced → what stands for it now. The pattern matches whole words, in either case."""

_FLOOR = r"(?<!\.)floors?(?!\()"
ALLOWED: dict[str, dict[str, str]] = {
    "frontend/src/lib/heat.ts": {_FLOOR: "a lower bound"},
    "src/sonoseek/networks/focus.py": {_FLOOR: "a lower bound"},
    "src/sonoseek/networks/lesion_pooling.py": {_FLOOR: "a lower bound"},
    "src/sonoseek/networks/outline.py": {_FLOOR: "a lower bound, and a key of recipes"},
    "src/sonoseek/networks/row_context.py": {r"told|said|speaks?": "a key of stored weights"},
    "src/sonoseek/training/building.py": {_FLOOR: "a lower bound"},
    "src/sonoseek/training/options.py": {_FLOOR: "a lower bound"},
    "src/sonoseek/encoder/manifest.py": {r"cleaning|cleaned scans?": "a key of bundles of format 1"},
}
"""Path → pattern of the list above → why it may stand there."""

DETECTED = ("src/sonoseek/datasets/", "src/sonoseek/io/", "src/sonoseek/preprocessing/")
"""Packages that search within files and pixels: a variable called "found" names its content there."""

LOCALS = {"told", "said", "kept", "held", "asked", "found", "speaks"}
"""Names of variables and arguments that do not say what they hold."""

SEARCHED = (
    "src/sonoseek/**/*.py",
    "src/sonoseek/**/*.html",
    "frontend/src/**/*",
    "docs/**/*.md",
    "README.md",
    "CONTRIBUTING.md",
)


def public_names() -> Iterator[tuple[str, str]]:
    """Every public name, and where it is public."""
    yield from ((name, "sonoseek") for name in ss.__all__)
    if "SearchOptions" in ss.__all__:
        yield from ((field.name, "SearchOptions") for field in fields(ss.SearchOptions))
    yield from verbs(typer.main.get_command(app))
    yield from ((key, "JSON report") for key in sorted(keys(report_schema())))


def verbs(command: click.Command) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            yield option.lstrip("-"), f"option of {command.name}"
    for name, inner in getattr(command, "commands", {}).items():
        yield name, "verb"
        yield from verbs(inner)


def keys(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(keys, schema))
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own.union(*map(keys, schema.values()))


def test_every_public_name_is_in_the_glossary_or_a_plain_word() -> None:
    terms = {word for code in re.findall(r"`([^`]+)`", GLOSSARY) for word in re.findall(r"[\w-]+", code.lstrip("-"))}
    missing = {
        f"{name} ({where})"
        for name, where in public_names()
        if {name, name.replace("-", "_")}.isdisjoint(terms | PLAIN)
    }
    assert sorted(missing) == []


def test_every_setting_is_in_the_table_of_settings() -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text("utf-8")
    assert [field.name for field in fields(ss.Settings) if f"SONOSEEK_{field.name.upper()}" not in text] == []


def searched() -> list[Path]:
    files = {file for pattern in SEARCHED for file in ROOT.glob(pattern) if file.is_file()}
    return sorted(file for file in files if "page" not in file.parts)


def replaced_in(file: Path) -> Iterator[str]:
    allowed = ALLOWED.get(str(file.relative_to(ROOT)), {})
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        for pattern, instead in REPLACED.items():
            if pattern not in allowed and (hit := re.search(rf"(?<![\w-])({pattern})(?![\w-])", line, re.IGNORECASE)):
                yield f"{file.relative_to(ROOT)}:{number}: {hit[0]!r}; the term is: {instead}"
    if file.suffix == ".py":
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            name = (
                node.id
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
                else getattr(node, "arg", None)
            )
            if name == "found" and str(file.relative_to(ROOT)).startswith(DETECTED):
                continue
            if name in LOCALS and isinstance(node, ast.Name | ast.arg):
                yield f"{file.relative_to(ROOT)}:{node.lineno}: a variable called {name!r}; name its content"


def test_words_that_were_replaced_do_not_come_back() -> None:
    assert [hit for file in searched() for hit in replaced_in(file)] == []
