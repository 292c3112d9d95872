"""Writes docs/reference/licences.md: the licence of every package that `pip install sonoseek` brings."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "licences.md"
PINS = ROOT / "requirements" / "inference.txt"
NO_LICENCE = ("OSI Approved", "DFSG approved", "License")
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|MPL|EPL|CDDL|EUPL|GNU|Mozilla Public)", re.IGNORECASE)
NAMED_COPYLEFT = {
    "certifi": "MPL-2.0, the list of certificates alone; used unchanged",
    "pathspec": "MPL-2.0; needed by hatchling, which builds sonoseek from source; used unchanged, no part of the wheel",
    "tqdm": "MPL-2.0 and MIT; used unchanged: the MPL binds changes of its own files alone",
    "numpy": "permissive; its wheel bundles libgfortran under GPL-3.0 with the GCC runtime library exception",
    "opencv-python-headless": "Apache-2.0; its wheel bundles FFmpeg under LGPL-2.1 as shared libraries, which sonoseek "
    "does not call",
}
"""Packages under a copyleft licence alone or in part → why they may be used. A test holds it complete."""


def pinned(path: Path = PINS) -> list[str]:
    """Names of the pinned packages, in order."""
    return re.findall(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", path.read_text("utf-8"), re.MULTILINE)


def licence(package: Distribution) -> str:
    """As the package's metadata state it: its SPDX expression, else classifiers, else the first line of its text."""
    stated = package.metadata
    if expression := stated.get("License-Expression"):
        return expression.strip()
    classified = [text.split(" :: ")[-1] for text in stated.get_all("Classifier") or () if text.startswith("License")]
    if classified := [name for name in classified if name not in NO_LICENCE]:
        return " / ".join(sorted(classified))
    return next((line.strip() for line in (stated.get("License") or "").splitlines() if line.strip()), "not stated")


def is_copyleft_only(stated: str) -> bool:
    """Whether no choice of the stated licences is permissive; "and" binds all, "or" and "/" offer a choice.

    A licence with an exception for linking ("WITH") counts as copyleft: it must be named.
    """
    offers = re.split(r"\s+or\s+|\s*/\s*", stated, flags=re.IGNORECASE)
    return all(COPYLEFT.search(offer) for offer in offers)


def table() -> str:
    """Markdown rows, one per pinned package."""
    rows = ["| package | version | licence, as its metadata state it |", "|---|---|---|"]
    for name in pinned():
        package = distribution(name)
        text = licence(package).replace("|", "\\|")
        rows.append(f"| {name} | {package.version} | {text[:160]} |")
    return "\n".join(rows)


def page() -> str:
    """The whole page."""
    named = "\n".join(f"| {name} | {why} |" for name, why in NAMED_COPYLEFT.items())
    return f"""# Licences

sonoseek is under Apache-2.0. `pip install sonoseek` brings the packages below, each under its own licence. Written by
`make licences` from the metadata of the installed packages; `make sbom` writes the same as a CycloneDX document beside
the wheel. The optional parts (training, evaluation, Milvus, Ray) are not listed.

{table()}

## Copyleft

By the metadata, and by the libraries that a wheel bundles, which the metadata do not tell.

| package | why it may be used |
|---|---|
{named}
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
