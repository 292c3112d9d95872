"""The commands and Python blocks of a page, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import typer

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
]
PROGRAMS = ("sonoseek", "pip", "make", "export", "python", "torchrun", "tensorboard", "ray", "curl")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:sonoseek|pip install) [^`]*)`")
INDENT = "    "


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, "" where none is named, and its text."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(language, text) for language, text in FENCE.findall(page.read_text("utf-8"))]


def commands(page: Path) -> list[str]:
    """Every command of a page in its order: of fenced bash blocks, of indented lines, and within sentences."""
    text = page.read_text("utf-8")
    found: list[tuple[int, str]] = []
    for fence in FENCE.finditer(text):
        if fence[1] == "bash":
            found += [(fence.start(), line) for line in _joined(fence[2].splitlines())]
    prose = FENCE.sub(lambda fence: " " * len(fence[0]), text)
    place = 0
    for line in prose.splitlines(keepends=True):
        if line.startswith(INDENT) and line.split(maxsplit=1)[:1] and line.split()[0] in PROGRAMS:
            found.append((place, line.strip()))
        else:
            inline = ((place + each.start(), each[1]) for each in INLINE.finditer(line))
            found += [(start, command) for start, command in inline if not _is_a_pattern(command)]
        place += len(line)
    return [line for _, line in sorted(found, key=lambda each: each[0])]


def words(command: str) -> list[str]:
    """As a shell splits it, without the comment."""
    return shlex.split(command, comments=True)


def check_arguments(command: str, app: typer.Typer) -> None:
    """See that the verb and the options of a `sonoseek` command are there, without running it.

    Raises:
        click.UsageError: they are not.
    """
    verb: click.Command = typer.main.get_command(app)
    arguments = words(command)
    arguments = arguments[arguments.index("sonoseek") + 1 :]
    while isinstance(verb, click.Group):
        name, arguments = arguments[0], arguments[1:]
        if name not in verb.commands:
            raise click.UsageError(f"there is no verb {name!r} in {command!r}")
        verb = verb.commands[name]
    verb.make_context(verb.name, arguments)


def _joined(lines: list[str]) -> list[str]:
    """Lines of a shell, those that end in a backslash put together with the next."""
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [line.strip() for line in whole if line.strip()]


def _is_a_pattern(command: str) -> bool:
    """Whether it only names its parts: `sonoseek query …`, `sonoseek VERB --help`."""
    return "…" in command or re.search(r"\b[A-Z]{3,}\b", command) is not None
