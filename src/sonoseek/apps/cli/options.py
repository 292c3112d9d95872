"""Options that several verbs take: single ones, and groups, each a dataclass with an option per field."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

Bundle = Annotated[
    Path | None, typer.Option(help="`accurate`, `fast`, or a bundle's folder; by default the gallery's.")
]
Calibration = Annotated[
    bool,
    typer.Option(help="Predict by the gallery's own calibration, where `calibrate` stored one; else the bundle's."),
]


def with_groups(verb: Callable[..., None]) -> Callable[..., None]:
    """Let a verb take groups of options: Typer sees a dataclass' fields in the place of the parameter of that type."""
    own = inspect.signature(verb, eval_str=True)
    groups: dict[str, Any] = {n: each.annotation for n, each in own.parameters.items() if is_dataclass(each.annotation)}
    fields = {name: inspect.signature(kind, eval_str=True).parameters for name, kind in groups.items()}
    options = [each for name, one in own.parameters.items() for each in fields.get(name, {name: one}).values()]
    seen = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in options]

    @wraps(verb)
    def called(**values: Any) -> None:
        made = {name: kind(**{each: values.pop(each) for each in fields[name]}) for name, kind in groups.items()}
        verb(**made, **values)

    called.__signature__ = own.replace(parameters=seen)  # type: ignore[attr-defined]  # what Typer looks at first
    called.__annotations__ = {each.name: each.annotation for each in seen}
    return called
