"""What the docs must name: every verb, every setting, every error."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer

import sonoseek as ss
import sonoseek.core.errors as errors
from sonoseek.apps.cli.main import app
from sonoseek.core import Settings, SonoseekError
from sonoseek.core.settings import PREFIX
from sonoseek.encoder import OnnxEncoder
from sonoseek.reports.warnings import CODES

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
LESS_USED = {"__version__", "SearchEngine", "SonoseekError"}
"""Public names that need no line on the screen of calls."""


def verbs(group: object, before: str = "") -> list[str]:
    command = typer.main.get_command(group) if isinstance(group, typer.Typer) else group
    nested = getattr(command, "commands", None)
    if nested is None:
        return [before.strip()]
    return [verb for name, inner in nested.items() for verb in verbs(inner, f"{before} {name}")]


def test_every_verb_has_its_heading() -> None:
    text = (DOCS / "reference" / "cli.md").read_text()
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert sorted(headings) == sorted(verbs(app))


def test_every_verb_explains_itself() -> None:
    def walk(command: object) -> None:
        assert command.help, command.name  # type: ignore[attr-defined]
        for inner in getattr(command, "commands", {}).values():
            walk(inner)

    walk(typer.main.get_command(app))


def test_every_setting_is_documented() -> None:
    text = (DOCS / "reference" / "settings.md").read_text()
    for setting in fields(Settings):
        assert f"`{PREFIX}{setting.name.upper()}`" in text


def test_the_calls_on_one_screen_are_the_signatures() -> None:
    text = (DOCS / "reference" / "python.md").read_text()
    lines = dict(re.findall(r"^ *((?:ss|engine|encoder)\.\w+)(.*)$", text, re.MULTILINE))
    assert set(re.findall(r"ss\.(\w+)", "\n".join([*lines, *lines.values()]))) >= set(ss.__all__) - LESS_USED
    for name, rest in lines.items():
        owner, _, attribute = name.partition(".")
        called = getattr({"ss": ss, "engine": ss.SearchEngine, "encoder": OnnxEncoder}[owner], attribute)
        if given := re.match(r"\((.*?)\)", rest):
            shown = [each for each in given[1].split(", ") if each != "*"]
            actual = [
                each for each in inspect.signature(called).parameters if each not in ("self", "settings", "keywords")
            ]
            assert shown == actual, name


def test_every_error_is_documented() -> None:
    text = (DOCS / "reference" / "errors.md").read_text()
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, SonoseekError):
            assert f"`{name}`" in text
            base, builtin = kind.__bases__[0], next(b for b in kind.__mro__ if b.__module__ == "builtins")
            assert re.search(rf"{name} +{builtin.__name__}\b", errors.__doc__ or ""), f"{name} ({base.__name__})"


def test_readme_names_the_two_commands() -> None:
    text = README.read_text()
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.parametrize("page", [*sorted(DOCS.rglob("*.md")), README], ids=lambda p: p.name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_warning_is_in_the_table_with_its_severity() -> None:
    text = (DOCS / "concepts" / "reading-a-report.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| \S.* \|$", text, re.MULTILINE)
    assert rows == list(CODES.items())
