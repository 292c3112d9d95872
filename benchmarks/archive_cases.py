"""Score small archives as people have them: `scored(FOLDER)` of `reading_cases.py`.

FOLDER holds `archives.csv`: folder, kind, should. What `should` says in words stands below as what can be checked: how
many cases, which words in their fields or in what `sonoseek data check` prints, or in which words a refusal names the
fault.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import sonoseek as ss
from sonoseek.core import SonoseekError

OUTCOMES = ("right", "refused, as it may be", "refused, though sound", "wrong")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an archive should give.

    Attributes:
        dataset: name.
        cases: how many; None where it must be refused.
        text: pattern in the cases' fields or in what is printed.
        absent: pattern that may stand in none of the cases' names.
        refusal: pattern of a refusal that is right as well.
    """

    dataset: str = "manifest"
    cases: int | None = 3
    text: str = ""
    absent: str = r"^\._|[Mm]ask"
    refusal: str | None = None


WANTED = {
    "newline-in-cell": Wanted(text="invasive ductal carcinoma"),
    "vertical-tab": Wanted(),
    "quoted-vt": Wanted(text="fibroadenoma left"),
    "sep-line": Wanted(refusal="sep="),
    "utf16-tab": Wanted(refusal="UTF-16"),
    "trailing-commas": Wanted(),
    "empty-index-column": Wanted(refusal="no name"),
    "date-202112": Wanted(cases=None, refusal=r"row 2.*'202112'"),
    "age_1_0": Wanted(cases=None, refusal=r"row 2.*'1_0'"),
    "nfd-on-disk": Wanted(cases=1, refusal="accents"),
    "newline": Wanted(cases=1, refusal=r"a.b\.png"),
    "appledouble": Wanted(dataset="busi", cases=6),
    "copies": Wanted(dataset="busi", cases=8, text="not among the 780"),
    "jpg": Wanted(dataset="busi", cases=6, refusal="no PNG"),
    "mask-names": Wanted(dataset="busi", cases=6),
    "nested": Wanted(dataset="folder", refusal="a folder deeper"),
    "other-class": Wanted(dataset="folder", cases=2, text=r"Cysts/ is left out[\s\S]*bening/ is left out"),
    "mask-spellings": Wanted(dataset="folder", cases=4),
    "anonymous": Wanted(dataset="folder", cases=8),
}
"""Name of the folder → what it should give."""
LEAST_MATCHES = 5
"""Of an archive whose scans all bear one placeholder as patient id."""


def scored(folder: Path) -> list[tuple[str, str, str]]:
    """(folder, kind, outcome and detail) of each row of `archives.csv`."""
    with (folder / "archives.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    found = []
    for row in rows:
        outcome, detail = tried(folder / row["folder"], WANTED[Path(row["folder"]).name])
        found.append((row["folder"], row["kind"], f"{outcome}: {detail}"))
    return found


def tried(archive: Path, wanted: Wanted) -> tuple[str, str]:
    """(outcome, what was seen)."""
    source = archive / "archive.csv" if wanted.dataset == "manifest" else archive
    printed = checked(wanted.dataset, source)
    try:
        records = list(ss.open_dataset(wanted.dataset, source).records())
    except SonoseekError as error:
        return refused(str(error), wanted)
    except Exception as error:  # a traceback is always wrong
        return "wrong", f"{type(error).__name__}: {error}"
    if wanted.cases is None:
        return "wrong", f"{len(records)} cases, though it must be refused"
    if not records:
        return refused(printed, wanted)
    names = [record.case_id for record in records]
    if len(records) != wanted.cases or any(re.search(wanted.absent, name) for name in names):
        return "wrong", f"{len(records)} cases, not {wanted.cases}: {', '.join(names)}"
    if not re.search(wanted.text, f"{records}\n{printed}"):
        return "wrong", f"{len(records)} cases, and no word that matches {wanted.text!r}"
    if archive.name == "anonymous" and (count := matches(archive)) < LEAST_MATCHES:
        return "wrong", f"{count} matches"
    return "right", f"{len(records)} cases"


def refused(text: str, wanted: Wanted) -> tuple[str, str]:
    allowed = wanted.refusal is not None and re.search(wanted.refusal, text, re.DOTALL) is not None
    return OUTCOMES[1] if allowed else OUTCOMES[2], " ".join(text.split())[-200:]


def checked(dataset: str, source: Path) -> str:
    """What `sonoseek data check` prints, in one line a sentence."""
    command = [sys.executable, "-m", "sonoseek.apps.cli", "data", "check", dataset, "--data", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def matches(archive: Path) -> int:
    """Similar cases of the archive's first scan in a gallery of all."""
    with tempfile.TemporaryDirectory() as scratch:
        gallery = Path(scratch) / "gallery"
        ss.build_gallery(ss.open_dataset("folder", archive), gallery, bundle="fast")
        scan = ss.read_scan(sorted(archive.rglob("*.dcm"))[0])
        with ss.open_engine(gallery) as engine:
            return len(engine.query(scan).matches)
