"""The pins of an installation: hashes, no address of an index, and no copyleft licence that is not named."""

import json
import re
import sys
from importlib.metadata import distribution

import pytest
from commands import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import licences

REQUIREMENTS = ROOT / "requirements"


def test_every_copyleft_package_is_named() -> None:
    stated = {name: licences.licence(distribution(name)) for name in licences.pinned()}
    found = {name for name, text in stated.items() if licences.is_copyleft_only(text)}
    assert found <= set(licences.NAMED_COPYLEFT), "say why it may be used in docs/licences.py, or use another package"
    assert not [name for name, text in stated.items() if text == "not stated"]


def test_the_page_lists_the_pinned_packages() -> None:
    rows = re.findall(r"^\| (\S+) \| (\S+) \| [^|]+ \|$", licences.PAGE.read_text("utf-8"), re.MULTILINE)
    pins = re.findall(r"^(\S+)==(\S+)", licences.PINS.read_text("utf-8"), re.MULTILINE)
    assert rows[1:] == pins, "the pins have changed; run `make licences`"


@pytest.mark.parametrize(
    ("stated", "only"),
    [
        ("MIT", False),
        ("MPL-2.0", True),
        ("MPL-2.0 AND MIT", True),
        ("GPL-3.0-or-later OR MIT", False),
        ("GNU General Public License v3 (GPLv3)", True),
        ("LGPL-2.1-or-later OR GPL-2.0-only", True),
        ("GPL-3.0-or-later WITH GCC-exception-3.1", True),
        ("BSD License / GNU General Public License (GPL)", False),
    ],
)
def test_a_choice_of_licences_is_understood(stated: str, only: bool) -> None:
    assert licences.is_copyleft_only(stated) is only


@pytest.mark.parametrize("name", ["inference.txt", "tools.txt"])
def test_every_pin_has_hashes(name: str) -> None:
    text = (REQUIREMENTS / name).read_text("utf-8")
    entries = re.sub(r" \\\n +", " ", text).splitlines()
    pins = [entry for entry in entries if entry and not entry.startswith("#")]
    assert pins
    assert not [pin for pin in pins if not re.fullmatch(r"[\w.-]+==\S+( ; [^-]+)?( --hash=sha256:[0-9a-f]{64})+", pin)]


def test_no_lock_file_names_an_index() -> None:
    for path in (*REQUIREMENTS.glob("*.txt"), *REQUIREMENTS.glob("*.in")):
        assert not re.search(r"://|--(extra-)?index-url|--find-links", path.read_text("utf-8")), path.name


def test_every_package_of_the_page_has_a_hash_and_no_install_script() -> None:
    packages = json.loads((ROOT / "frontend" / "package-lock.json").read_text("utf-8"))["packages"]
    others = {name: each for name, each in packages.items() if name}
    assert others
    assert not [name for name, each in others.items() if "integrity" not in each and not each.get("inBundle")]
    assert not [name for name, each in others.items() if "resolved" in each or each.get("hasInstallScript")]
