"""Get a public dataset from its publisher: licence first, then download, check, unpack."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sonoseek.core import DatasetError, InvalidValueError
from sonoseek.core.files import write_atomically
from sonoseek.datasets.base import DatasetCard, Source
from sonoseek.datasets.resume import ResumingDownloader, disk_trouble
from sonoseek.datasets.unpack import unpack

log = logging.getLogger(__name__)
SUMS = "SHA256SUMS"
"""Beside the dataset; what `sha256sum --check` reads. Holds what opened as the dataset, to compare another download."""
MAX_BYTES = 2 << 30
"""Of a file whose size its publisher does not state: several times the largest of the datasets."""


def fetch(
    name: str,
    destination: Path | str,
    *,
    accept_licence: bool,
    base_url: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Download and unpack a dataset; goes on with a download that was cut off. Does nothing where it is already.

    An archive that a person has put into `destination` under its `file_name` is taken instead of a download.

    Args:
        name: in the table of datasets.
        destination: folder for it, made if needed.
        accept_licence: that the user has seen `describe(name)` and agrees.
        base_url: a mirror that has the files under their `file_name`, instead of the publisher.
        on_progress: called with bytes (done, total) of the file under way; total 0 where the server does not say.

    Returns:
        `destination`, which `open_dataset(name, …)` takes.

    Raises:
        InvalidValueError: the licence was not accepted.
        NotFoundError: no such dataset, or its publisher has the file no longer.
        DatasetError: nothing to download, refused, a wrong checksum, or an archive that is not what it should be.
        TemporaryError: trouble that may pass; calling again goes on where it stopped.
    """
    from sonoseek.datasets import describe  # it imports this folder's table, which lists us

    card = describe(name)
    if not card.sources:
        raise DatasetError(
            f"{name} is not for download: it is {card.title}. There are: busi, busbra, breast, bus-uclm."
        )
    if not accept_licence:
        raise InvalidValueError(
            f"accept_licence is False; {card.title} comes under: {card.licence}. To be cited: {card.citation} "
            "Pass accept_licence=True if you agree."
        )
    folder = Path(destination).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_trouble(error, folder) from error
    if _is_there(name, folder):
        log.info("%s is already in %s", name, folder)
        return folder
    files: list[Path] = []
    for source in card.sources:
        url = source.url if base_url is None else f"{base_url.rstrip('/')}/{source.file_name}"
        files.append(_download(source, folder, url=url, card=card, on_progress=on_progress))
    _unpack_all(name, tuple(zip(card.sources, files, strict=True)), folder)
    return folder


def _is_there(name: str, folder: Path) -> bool:
    from sonoseek.datasets import open_dataset

    try:
        open_dataset(name, folder)
    except DatasetError:
        return False
    return True


def _download(
    source: Source, folder: Path, *, url: str, card: DatasetCard, on_progress: Callable[[int, int], None] | None
) -> Path:
    import pooch  # 0.1 s, and only downloads need it

    target = folder / source.file_name
    downloader = ResumingDownloader(
        folder / f"{source.file_name}.part",
        max_bytes=MAX_BYTES if source.size is None else source.size,
        by_hand=f"Download it in a browser from {card.url} to {target} and call again.",
        on_progress=on_progress,
    )
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(url, known_hash=source.checksum, fname=source.file_name, path=folder, downloader=downloader)
    except ValueError as error:
        if isinstance(error, DatasetError | InvalidValueError):
            raise
        raise DatasetError(
            f"{url} is not the file that was published: {error} It was thrown away. Download it again; if that does "
            f"not help, its source has changed it: see {card.url}"
        ) from error
    return target


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Without the advice on checksums that pooch writes to the terminal, across a progress bar."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _unpack_all(name: str, downloads: tuple[tuple[Source, Path], ...], folder: Path) -> None:
    """Unpack every archive and open the dataset; only then note the sums and delete the archives.

    Where that fails nothing of the archives stays in `folder` and no sum is noted: a wrong file must not be what later
    downloads are compared with. An archive without a checksum is deleted, so that the next call asks its source again.
    """
    from sonoseek.datasets import open_dataset

    archives = [(source, file) for source, file in downloads if source.unpack]
    arrived: list[Path] = []
    try:
        sums = {source.file_name: _compare(source, file, folder) for source, file in archives}
        for _, file in archives:
            arrived += unpack(file, folder)
        open_dataset(name, folder)  # says what is missing where an archive holds something else
    except DatasetError:
        for path in arrived:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        for source, file in archives:
            if source.checksum is None:
                file.unlink()
        raise
    for source, file in archives:
        _note(source, sums[source.file_name], folder)
        file.unlink()


def _noted(folder: Path) -> list[str]:
    sums = folder / SUMS
    return sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []


def _compare(source: Source, file: Path, folder: Path) -> str:
    """The file's SHA-256 in hex digits, compared with that of an earlier download where there was one."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    before = next((line.split()[0] for line in _noted(folder) if line.endswith(f" {source.file_name}")), found)
    if before != found:
        raise DatasetError(
            f"{source.file_name} has sha256 {found}, and an earlier download had {before} (noted in {folder / SUMS}); "
            "its source has changed it, or something was put in between. Remove the line if you trust the new one."
        )
    return found


def _note(source: Source, sha256: str, folder: Path) -> None:
    line = f"{sha256}  {source.file_name}"
    if line in (lines := _noted(folder)):
        return
    if source.checksum is None:
        log.warning("%s: its publisher states no checksum; got sha256 %s", source.file_name, sha256)
    write_atomically(folder / SUMS, ("\n".join([*lines, line]) + "\n").encode())
