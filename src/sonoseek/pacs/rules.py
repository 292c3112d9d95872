"""The settings of the wing beside a PACS: one TOML file, checked whole before anything starts."""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.pacs.peer import check_web_address

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
YEAR_S = 31_536_000
Seconds = Annotated[float, msgspec.Meta(ge=0, le=YEAR_S)]
Duration = Annotated[float, msgspec.Meta(gt=0, le=YEAR_S)]
Count = Annotated[int, msgspec.Meta(ge=1)]
AETitle = Annotated[
    str, msgspec.Meta(pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?\Z")
]
Name = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]{1,64}\Z")]
Host = Annotated[
    str,
    msgspec.Meta(
        max_length=253,
        pattern=r"^(([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?)\Z",
    ),
]
Kind = Literal["sr", "sc", "pdf", "gsps", "seg", "seg-ohif"]
FrameChoice = Literal["first", "middle", "every"]
KINDS: tuple[str, ...] = get_args(Kind)
"""Kinds of results."""
_TITLE_RULE = "expected 1 … 16 printable ASCII characters, none of them a backslash, and no blank at either end"
_NAME_RULE = "expected 1 … 64 characters without line breaks and control characters"
_PATTERNS = {
    "host": "expected a host name or an IP address, without a port or http://",
    **dict.fromkeys(("name", "organisation", "send_to"), _NAME_RULE),
}
"""Key → the rule of its pattern; of other keys that of AE titles."""
_CHOICES: dict[str, tuple[str, ...]] = {"frames": get_args(FrameChoice), "results": KINDS}


class ServerTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS 1.2 or newer at the listener; a client without a certificate of `client_ca` is refused.

    Attributes:
        certificate, key: PEM files of this server.
        client_ca: PEM file of the authority that signs the clients' certificates.
    """

    certificate: Path
    key: Path
    client_ca: Path


class ClientTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS 1.2 or newer to a peer, whose certificate is checked.

    Attributes:
        ca: PEM file of the authority that signs the peer's certificate.
        certificate, key: PEM files that this client shows; both or neither.
        server_name: in the peer's certificate, where it is not the host.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""


class Listener(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how studies are received.

    Attributes:
        ae_title: of this listener; associations that call another are refused.
        address, port: to listen at.
        max_associations: at once.
        max_object_mb: MiB of one object, at most.
        min_free_mb: MiB of the disk that stay free; an object that would take them is refused with 0xA700.
        keep_days: of received files; later they are removed, and their rows stay.
        timeout_seconds: without a byte from the sender, after which an association is ended.
        tls: None: not encrypted.
    """

    ae_title: AETitle = "SONOSEEK"
    address: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 11112
    max_associations: Count = 16
    max_object_mb: Count = 4096
    min_free_mb: Annotated[int, msgspec.Meta(ge=0)] = 2048
    keep_days: Duration = 14.0
    timeout_seconds: Duration = 60.0
    tls: ServerTls | None = None


class Sender(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may open an association: an AE title from these addresses.

    Attributes:
        ae_title: calling AE title.
        addresses: single ones ("10.0.0.7") or networks ("10.0.0.0/24").
    """

    ae_title: AETitle
    addresses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Peer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where results are sent.

    Attributes:
        name: by which rules name it.
        ae_title, host, port: of the peer.
        calling_ae_title: of this sender; empty: the listener's.
        commitment: whether the peer is asked to commit to what it received (PS3.4 J); it answers to the listener.
        commitment_seconds: to wait for its answer.
        retry_seconds: before the first retry; doubled for each further one.
        retry_limit_seconds: between two retries, at most.
        give_up_hours: after which an object that was never accepted counts as failed.
        attempts: for an object that the peer refuses, as against a peer that does not answer.
        tls: None: not encrypted.
        dicomweb: address of its DICOMweb service, for `find` and `import`; empty: none.
    """

    name: Name
    ae_title: AETitle
    host: Host
    port: Port = 104
    calling_ae_title: AETitle | Literal[""] = ""
    commitment: bool = False
    commitment_seconds: Duration = 600.0
    retry_seconds: Duration = 5.0
    retry_limit_seconds: Duration = 600.0
    give_up_hours: Duration = 168.0
    attempts: Count = 5
    tls: ClientTls | None = None
    dicomweb: str = ""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which studies are queried, when, and what is sent where. The first rule that fits an object counts.

    Attributes:
        name: of the rule.
        senders: calling AE titles; empty: all.
        modality: (0008,0060) of the object.
        body_part: (0018,0015) of the object; empty: all, also those without one.
        quiet_seconds: without a new object of the study, after which it is queried.
        frames: of a cine: the first, the middle one, or every one up to `max_frames`, evenly spaced.
        max_frames: of one object.
        attempts: to query a study, after which it counts as failed.
        retry_seconds: between two attempts.
        results: kinds of objects that are made.
        send_to: names of peers.
    """

    name: Name
    senders: tuple[AETitle, ...] = ()
    modality: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("US",)
    body_part: tuple[str, ...] = ()
    quiet_seconds: Seconds = 30.0
    frames: FrameChoice = "every"
    max_frames: Count = 64
    attempts: Count = 3
    retry_seconds: Seconds = 30.0
    results: Annotated[tuple[Kind, ...], msgspec.Meta(min_length=1)] = ("sr", "sc")
    send_to: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]

    def fits(self, *, sender: str, modality: str, body_part: str) -> bool:
        """Whether an object falls under this rule."""
        return (
            (not self.senders or sender in self.senders)
            and modality.upper() in map(str.upper, self.modality)
            and (not self.body_part or body_part.upper() in map(str.upper, self.body_part))
        )


class Syslog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An audit repository: RFC 5424 messages over TLS (RFC 5425).

    Attributes:
        host, port: of the repository.
        tls: its authority, and this client's certificate.
    """

    host: Host
    port: Port = 6514
    tls: ClientTls


class Audit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The audit trail (PS3.15 A.5).

    Attributes:
        file: None: `audit.log` in the state folder.
        syslog: None: the file alone.
    """

    file: Path | None = None
    syslog: Syslog | None = None


class PacsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings; see the classes of their tables.

    Attributes:
        state: folder for journal, received files and results.
        gallery: for queries, as `open_engine` takes it; empty: prediction and evidence alone.
        bundle: for queries, a shipped one's name or a path with a slash in it; empty: as `open_engine` chooses.
        organisation: of the readers who verify reports; every verified report names it.
        listener, senders, peers, rules, audit: the tables.
    """

    state: Path
    gallery: str = ""
    bundle: str = ""
    organisation: Name = "not stated"
    listener: Listener = Listener()
    senders: tuple[Sender, ...] = ()
    peers: tuple[Peer, ...] = ()
    rules: tuple[Rule, ...] = ()
    audit: Audit = Audit()

    def peer(self, name: str) -> Peer:
        """A peer by its name.

        Raises:
            NotFoundError: no such peer.
        """
        for each in self.peers:
            if each.name == name:
                return each
        named = ", ".join(each.name for each in self.peers) or "none"
        raise NotFoundError(f"no peer is called {name[:80]!r}; the file of settings has: {named}.")

    def rule(self, name: str) -> Rule | None:
        """A rule by its name; None: there is none any more."""
        return next((each for each in self.rules if each.name == name), None)

    def fitting_rule(self, *, sender: str, modality: str, body_part: str) -> Rule | None:
        """The first rule that an object falls under."""
        fitting = (each for each in self.rules if each.fits(sender=sender, modality=modality, body_part=body_part))
        return next(fitting, None)


def load_config(path: str | Path) -> PacsConfig:
    """Read a file of settings; paths in it are relative to its folder.

    Args:
        path: TOML.

    Raises:
        NotFoundError: no such file.
        InvalidValueError: no TOML; an unknown key; a value that breaks its rule; parts that contradict each other.
    """
    file = Path(path)
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{file}: there is no such file of settings. docs/how-to/pacs.md has an example."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{file}: this is no TOML in UTF-8 ({error}). Correct that place.") from error
    try:
        config = msgspec.convert(raw, PacsConfig, dec_hook=_path(file.resolve().parent))
        _check(config)
        config = msgspec.structs.replace(
            config,
            gallery=config.gallery if "://" in config.gallery else _beside(file, config.gallery),
            bundle=_beside(file, config.bundle) if "/" in config.bundle else config.bundle,
        )
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"{file}: {_explain(str(error), raw)}") from error
    except InvalidValueError as error:
        raise InvalidValueError(f"{file}: {error}") from error
    return config


def _beside(file: Path, path: str) -> str:
    return str(file.resolve().parent / Path(path).expanduser()) if path else ""


def _path(folder: Path) -> Any:
    def decode(kind: type, value: Any) -> Any:
        if kind is not Path or not isinstance(value, str) or not value:
            raise ValueError("Expected a path")  # msgspec adds the place
        return folder / Path(value).expanduser()

    return decode


def _explain(message: str, raw: Any) -> str:
    """The place, the value there, the rule, the remedy."""
    rule, _, place = message.partition(" - at `")
    names = place.rstrip("`").removeprefix("$").lstrip(".")
    value = raw
    for step in re.findall(r"[^.\[\]]+", names):
        value = value[int(step)] if isinstance(value, list) and step.isdigit() else value.get(step, "")
        if not isinstance(value, dict | list):
            break
    where = names or "the file"
    unknown = re.search(r"unknown field `(.+)`", rule)
    if unknown:
        close = difflib.get_close_matches(unknown[1], _keys(), n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Remove it."
        if unknown[1] in close:
            hint = "It belongs to another table: the lines before the first [table] are the file's own. Move it."
        return f"{where} has the key {unknown[1]!r}, which is not known here. {hint}"
    key = re.sub(r"\[[^\]]*\]", "", names).rpartition(".")[2]
    if "matching regex" in rule:
        rule = _PATTERNS.get(key, _TITLE_RULE)
    if "enum value" in rule:
        rule = f"expected one of {', '.join(_CHOICES[key])}"
    shown = "" if isinstance(value, dict | list) else f" is {value!r}"
    return f"{where}{shown}: {rule[:1].lower()}{rule[1:]}. Correct it; docs/how-to/pacs.md lists keys and values."


def _keys() -> list[str]:
    kinds = (PacsConfig, Listener, Sender, Peer, Rule, Audit, Syslog, ServerTls, ClientTls)
    return sorted({field for kind in kinds for field in kind.__struct_fields__})


def _check(config: PacsConfig) -> None:
    _check_names("peer", (peer.name for peer in config.peers))
    _check_names("rule", (rule.name for rule in config.rules))
    for sender in config.senders:
        for address in sender.addresses:
            network(address)
    for rule in config.rules:
        for name in rule.send_to:
            if name not in {peer.name for peer in config.peers}:
                raise InvalidValueError(
                    f"rule {rule.name!r} sends to {name!r}; it must name one of [[peers]]. Add the peer, or correct it."
                )
    callers = {sender.ae_title for sender in config.senders}
    for rule in config.rules:
        for title in rule.senders:
            if title not in callers:
                raise InvalidValueError(
                    f"rule {rule.name!r} is for the sender {title!r}; it must be the AE title of one of [[senders]]. "
                    "Add the sender, or correct it."
                )
    for peer in config.peers:
        if peer.commitment and peer.ae_title not in callers:
            raise InvalidValueError(
                f"peer {peer.name!r} has commitment = true, and its AE title {peer.ae_title!r} is not among "
                "[[senders]]; it answers by an association of its own. Add it there with its address."
            )
        if peer.tls is not None:
            _check_client(f"peer {peer.name!r}", peer.tls)
        if peer.dicomweb:
            check_web_address(peer.dicomweb)
    if config.audit.syslog is not None:
        _check_client("audit.syslog", config.audit.syslog.tls)
    _check_address(config.listener.address)


def _check_names(what: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise InvalidValueError(f"{count} {what}s are called {name!r}; each needs a name of its own. Rename one.")


def _check_client(where: str, tls: ClientTls) -> None:
    if (tls.certificate is None) != (tls.key is None):
        raise InvalidValueError(
            f"{where} has a certificate without a key, or the reverse; a client shows both. Give both, or neither."
        )


def _check_address(address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError as error:
        raise InvalidValueError(
            f"listener.address is {address!r}; it must be an IP address of this machine, or 0.0.0.0 for all."
        ) from error


def network(address: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A single address, or a network, as a network.

    Raises:
        InvalidValueError: it is neither.
    """
    try:
        return ipaddress.ip_network(address)
    except ValueError as error:
        raise InvalidValueError(
            f"the address {address!r} of a sender is neither an IP address nor a network like 10.0.0.0/24 ({error}). "
            "Correct it."
        ) from error
