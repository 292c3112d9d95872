"""The table from what a result says to a class: exact, never guessed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import msgspec

from sonoseek.core import PATHOLOGIES, InvalidValueError

_SPACES = re.compile(r"\s+")
_OBR = re.compile(r"OBR-([1-9][0-9]?)")


class _Hl7(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    diagnosis: tuple[str, ...] = ()
    laterality: tuple[str, ...] = ()
    accession: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of terms as a file has it."""

    malignant: tuple[str, ...] = ()
    benign: tuple[str, ...] = ()
    normal: tuple[str, ...] = ()
    columns: dict[str, tuple[str, ...]] = {}
    hl7: _Hl7 = _Hl7()
    defaults: bool = True


class Terms(msgspec.Struct, frozen=True):
    """What results are read by.

    Attributes:
        classes: normalised term or code → one of `core.PATHOLOGIES`.
        columns: our name of a column → the names that it may have in a table, in small letters.
        hl7_diagnosis, hl7_laterality: identifiers in OBX-3.
        hl7_accession: numbers of the fields of OBR that may hold the accession number.
    """

    classes: dict[str, str]
    columns: dict[str, tuple[str, ...]]
    hl7_diagnosis: frozenset[str]
    hl7_laterality: frozenset[str]
    hl7_accession: tuple[int, ...]

    def classify(self, texts: Iterable[str]) -> tuple[str | None, str]:
        """The class of a result.

        Args:
            texts: diagnoses or codes; each must be in the table.

        Returns:
            The class and ""; or None and why there is none.
        """
        given = [text for text in texts if normalised(text)]
        if not given:
            return None, "it states no diagnosis"
        classes = {text: self.classes.get(normalised(text)) for text in given}
        unmapped = [text for text, name in classes.items() if name is None]
        if unmapped:
            return None, f"unmapped: {unmapped[0][:120]!r} is not in the table of terms"
        names = sorted(set(filter(None, classes.values())))
        if len(names) > 1:
            return None, f"it states {' and '.join(names)} at once"
        return names[0], ""


def normalised(text: str) -> str:
    """The form in which terms are compared: small letters, single spaces, no full stop at the end (Unicode NFKC)."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip(" .;,")


def load_terms(path: Path | None = None) -> Terms:
    """The default table, and a hospital's own over it.

    A term of the hospital's table replaces the default's. `defaults = false` leaves the default's terms out; lists of
    columns and of `[hl7]` that are given replace the default's in any case.

    Args:
        path: TOML as `default_terms.toml` has it; None: the default alone.

    Raises:
        InvalidValueError: it does not parse, or has a term in two classes.
    """
    default = _decode(resources.files(__package__).joinpath("default_terms.toml").read_bytes(), "default_terms.toml")
    own = default if path is None else _decode(_bytes(path), str(path))
    merged = ({} if not own.defaults else _classes(default, "default_terms.toml")) | _classes(own, str(path))
    if unknown := set(own.columns) - set(default.columns):
        raise InvalidValueError(
            f"{path} names the columns {', '.join(sorted(unknown))}; there are {', '.join(default.columns)}. "
            "Correct [columns]."
        )
    accession = own.hl7.accession or default.hl7.accession
    fields = [_OBR.fullmatch(name) for name in accession]
    if not all(fields):
        raise InvalidValueError(f"{path} has [hl7] accession = {list(accession)}; each is a field of OBR, as 'OBR-18'.")
    return Terms(
        classes=merged,
        columns={
            name: tuple(each.strip().casefold() for each in own.columns.get(name, names))
            for name, names in default.columns.items()
        },
        hl7_diagnosis=frozenset(own.hl7.diagnosis or default.hl7.diagnosis),
        hl7_laterality=frozenset(own.hl7.laterality or default.hl7.laterality),
        hl7_accession=tuple(int(match[1]) for match in fields if match),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidValueError(
            f"the table of terms {path} does not open ({error.strerror}); it is a TOML file. Correct --terms."
        ) from error


def _decode(data: bytes, name: str) -> _File:
    try:
        return msgspec.toml.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidValueError(
            f"the table of terms {name} does not read: {error}. It holds the lists malignant, benign and normal, and "
            "may hold [columns] and [hl7]."
        ) from error


def _classes(file: _File, name: str) -> dict[str, str]:
    classes: dict[str, str] = {}
    for pathology in PATHOLOGIES:
        for term in getattr(file, pathology):
            plain = normalised(term)
            if not plain or classes.get(plain, pathology) != pathology:
                raise InvalidValueError(
                    f"{name} has the term {term!r} in {pathology} and in {classes.get(plain, 'no class')}; a term is "
                    "not empty and stands in one class. Remove one."
                )
            classes[plain] = pathology
    return classes
