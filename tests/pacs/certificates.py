"""Certificates for the tests, by the program `openssl`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

OPENSSL = shutil.which("openssl")


def make_authority(folder: Path, name: str) -> Path:
    """An authority: NAME.pem and NAME.key."""
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"),
    )
    return folder / f"{name}.pem"


def make_certificate(folder: Path, name: str, authority: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that the authority has signed: its file and its key's."""
    key, request, signed = (folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
    _openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
        *("-keyout", key, "-out", request),
    )
    (folder / "san.txt").write_text("subjectAltName=IP:127.0.0.1\n")
    _openssl(
        *("x509", "-req", "-in", request, "-CA", folder / f"{authority}.pem", "-CAkey", folder / f"{authority}.key"),
        *("-CAcreateserial", "-days", "2", "-extfile", folder / "san.txt", "-out", signed),
    )
    return signed, key


def _openssl(*arguments: object) -> None:
    subprocess.run([str(OPENSSL), *map(str, arguments)], check=True, capture_output=True)
