"""The file of settings, the study key, the rule of UIDs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from pacs_parts import write_settings

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.pacs.peer import Peer
from sonoseek.pacs.query import choose_frames
from sonoseek.pacs.rules import PacsConfig, load_config
from sonoseek.pacs.study_key import study_key
from sonoseek.pacs.uids import file_name, is_uid

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "pacs.md"


def _load(folder: Path, text: str) -> PacsConfig:
    file = folder / "pacs.toml"
    file.write_text(text)
    return load_config(file)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = _load(tmp_path, 'state = "state"\n[audit]\nfile = "/var/log/audit.log"')
    assert config.state == tmp_path / "state"
    assert config.audit.file == Path("/var/log/audit.log")
    assert (config.gallery, config.bundle) == ("", "")
    config = _load(tmp_path, 'state = "state"\ngallery = "galleries/breast"\nbundle = "fast"')
    assert (config.gallery, config.bundle) == (str(tmp_path / "galleries" / "breast"), "fast")
    config = _load(tmp_path, 'state = "state"\ngallery = "milvus://archive:19530/breast"\nbundle = "./fast"')
    assert (config.gallery, config.bundle) == ("milvus://archive:19530/breast", str(tmp_path / "fast"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('state = "s"\n[listener]\nprot = 104', r"listener has the key 'prot'.*Did you mean 'port'"),
        ('state = "s"\n[listener.tls]\nport = 104', r"'port', which is not known here. It belongs to another table"),
        ('state = "s"\n[listener]\nport = 70000', r"listener.port is 70000: expected `int` <= 65535"),
        ('state = "s"\n[listener]\naddress = "here"', r"listener.address is 'here'; it must be an IP address"),
        ('state = "s"\n[listener]\nae_title = "A TITLE TOO LONG FOR DICOM"', "1 … 16 printable ASCII characters"),
        ('state = "s"\n[listener]\nae_title = "A\\\\B"', "none of them a backslash"),
        ("state = 3", r"state is 3"),
        ('gallery = "g"', "missing required field `state`"),
        ("state = ", "this is no TOML"),
        ('state = "s"\n[[senders]]\nae_title = "A"\naddresses = []', r"senders\[0\].addresses"),
        ('state = "s"\n[[senders]]\nae_title = "A"\naddresses = ["10.0.0.1/8"]', "'10.0.0.1/8' of a sender"),
        ('state = "s"\n[[rules]]\nname = "r"\nsend_to = ["x"]', r"sends to 'x'; it must name one of \[\[peers\]\]"),
        ('state = "s"\n[[rules]]\nname = "r"\nsend_to = ["x"]\nframes = "all"', r"rules\[0\].frames is 'all'"),
        ('state = "s"\n[[rules]]\nname = "r"\nsend_to = ["x"]\nresults = ["txt"]', r"'txt': expected one of sr, sc"),
        (
            'state = "s"\n[[rules]]\nname = "r"\nsend_to = ["x"]\nquiet_seconds = inf',
            "quiet_seconds is inf: expected .* <=",
        ),
        ('state = "s"\n[listener]\nkeep_days = inf', "keep_days is inf: expected .* <="),
        ('state = "s"\n[listener]\ntimeout_seconds = 1e300', r"timeout_seconds is 1e\+300: expected .* <="),
        ('state = "s"\n[listener]\nae_title = "A\\n"', "1 … 16 printable ASCII characters"),
        *(
            (f'state = "s"\n[[peers]]\nname = "p"\nae_title = "P"\nhost = "{host}"', "expected a host name or an IP")
            for host in ("a..b", "http://pacs", "pacs:104", "a b", "", "pacs\\n", 64 * "a")
        ),
        ('state = "s"\n[[peers]]\nname = "p\\nq"\nae_title = "P"\nhost = "h"', "without line breaks"),
        (
            'state = "s"\n[[peers]]\nname = "p"\nae_title = "P"\nhost = "h"\ndicomweb = "pacs/dicom-web"',
            "the DICOMweb address has scheme ''",
        ),
        (
            'state = "s"\n[[peers]]\nname = "p"\nae_title = "P"\nhost = "h"\n'
            '[[rules]]\nname = "r"\nsend_to = ["p"]\nsenders = ["NOBODY"]',
            r"is for the sender 'NOBODY'; it must be the AE title of one of \[\[senders\]\]",
        ),
        (
            'state = "s"\n[[peers]]\nname = "p"\nae_title = "P"\nhost = "h"\ncommitment = true',
            r"its AE title 'P' is not among \[\[senders\]\]",
        ),
        (
            'state = "s"\n' + 2 * '[[peers]]\nname = "p"\nae_title = "P"\nhost = "h"\n',
            "2 peers are called 'p'",
        ),
        (
            'state = "s"\n[[peers]]\nname = "p"\nae_title = "P"\nhost = "h"\n[peers.tls]\nca = "c"\nkey = "k"',
            "a certificate without a key, or the reverse",
        ),
    ],
)
def test_a_bad_setting_is_named_with_its_value_and_its_rule(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        _load(tmp_path, text)


@pytest.mark.parametrize("host", ["pacs", "pacs_1.hospital.example.", "10.0.0.9", "::1", "fe80::1%eth0", "a-1.b"])
def test_hosts_are_names_and_addresses(tmp_path: Path, host: str) -> None:
    config = _load(tmp_path, f'state = "s"\n[[peers]]\nname = "p"\nae_title = "P"\nhost = "{host}"')
    assert config.peer("p").host == host


def test_no_file_and_no_peer_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no such file of settings"):
        load_config(tmp_path / "none.toml")
    config = load_config(write_settings(tmp_path))
    with pytest.raises(NotFoundError, match="no peer is called 'x'; the file of settings has: archive"):
        config.peer("x")


def test_the_first_rule_that_fits_counts(tmp_path: Path) -> None:
    rules = "".join(
        f'[[rules]]\nname = "{name}"\nsend_to = ["p"]\n{more}\n'
        for name, more in (("breast", 'body_part = ["Breast"]'), ("us2", 'senders = ["US2"]'), ("rest", ""))
    )
    sender = '[[senders]]\nae_title = "US2"\naddresses = ["10.0.0.7"]\n'
    config = _load(tmp_path, f'state = "s"\n{sender}[[peers]]\nname = "p"\nae_title = "P"\nhost = "h"\n{rules}')

    def fitting(sender: str, body_part: str, modality: str = "US") -> str | None:
        rule = config.fitting_rule(sender=sender, modality=modality, body_part=body_part)
        return rule and rule.name

    assert fitting("US2", "BREAST") == "breast"
    assert fitting("US2", "") == "us2"
    assert fitting("US1", "ABDOMEN") == "rest"
    assert fitting("US1", "BREAST", "MR") is None


def test_the_study_key_knows_no_order_and_no_repetition() -> None:
    assert study_key(["1.2", "1.10"]) == study_key(["1.10", "1.2", "1.2"])
    assert study_key(["1.2"]) != study_key(["1.2", "1.10"])
    assert re.fullmatch("[0-9a-f]{64}", study_key([]))


@pytest.mark.parametrize("uid", ["1", "0.0", "1.2.840.10008.1.1", "2.25." + "9" * 59])
def test_uids_of_the_standard_are_taken(uid: str) -> None:
    assert is_uid(uid)
    assert re.fullmatch(r"[0-9a-f]{64}\.dcm", file_name(uid))


@pytest.mark.parametrize("uid", ["", ".", "1.", ".1", "01", "1.02", "1..2", "1.2\n", "1.٣", "../1", "1" * 65])
def test_other_uids_are_not(uid: str) -> None:
    assert not is_uid(uid)


def test_frames_are_thinned_out_evenly() -> None:
    assert choose_frames(100, "every", 4) == [0, 33, 66, 99]
    assert choose_frames(3, "every", 64) == [0, 1, 2]
    assert choose_frames(9, "every", 1) == [4]
    assert choose_frames(1, "middle", 1) == [0]
    assert choose_frames(7, "first", 3) == [0]


def test_every_example_of_the_page_loads(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        config = _load(tmp_path, example)
        assert config.rules
        assert config.senders


@pytest.mark.parametrize("text", ["", "1.", ".1", "1..2", "1.02", "1.2/../3", "1.2\n", "1" * 65, "1.2.x"])
def test_what_is_no_uid(text: str) -> None:
    assert not is_uid(text)
    assert is_uid("1.2.840.10008.1.1")
    assert is_uid("2.25.0")


@pytest.mark.parametrize("change", [{"ae_title": "A" * 17}, {"our_ae_title": " "}, {"port": 0}, {"host": ""}])
def test_a_peer_that_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(InvalidValueError):
        replace(Peer(name="x", host="h"), **change)  # type: ignore[arg-type]
