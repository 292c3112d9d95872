"""Atomic writes: whole or not at all, through links, into pipes, with the mode of the file before."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sonoseek.core.files import PRIVATE, make_private_folder, open_atomically, open_private, write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and modes of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_writes_text_and_bytes_and_leaves_no_draft(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "a.txt", "ü\r\n") == tmp_path / "a.txt"
    assert write_atomically(str(tmp_path / "b.bin"), b"\x00") == tmp_path / "b.bin"
    assert (tmp_path / "a.txt").read_bytes() == "ü\r\n".encode()
    write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_bytes() == b"new"
    assert names(tmp_path) == ["a.txt", "b.bin"]


def test_an_error_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a.npz", b"old")

    def write_half() -> None:
        with open_atomically(path) as file:
            np.savez(file, numbers=np.arange(9))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.npz"]


def test_a_process_that_dies_before_the_replacement_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a.txt", "old")
    program = (
        "import os, pathlib, sys; from sonoseek.core import files;"
        "pathlib.Path.replace = lambda *_: os._exit(7);"
        "files.write_atomically(sys.argv[1], 'new')"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 7
    assert path.read_text() == "old"
    (draft,) = [each for each in tmp_path.iterdir() if each != path]
    assert draft.name.startswith(".a.txt.")
    assert draft.read_text() == "new"


def test_file_and_folder_are_flushed_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", lambda a, b: (steps.append("replace"), replace(a, b))[1])
    write_atomically(tmp_path / "a.txt", "x")
    assert steps == ["file", "replace", "folder"]


@posix
def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    real = write_atomically(tmp_path / "far" / "real.txt", "old")
    link = tmp_path / "link.txt"
    link.symlink_to(Path("far") / "real.txt")
    write_atomically(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(Path("far") / "made.txt")
    write_atomically(dangling, "made")
    assert dangling.is_symlink()
    assert names(tmp_path / "far") == ["made.txt", "real.txt"]


@posix
@pytest.mark.parametrize("through_link", [False, True])
def test_a_pipe_is_written_into_and_stays(tmp_path: Path, through_link: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    named = pipe
    if through_link:
        named = tmp_path / "link"
        named.symlink_to(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_atomically(named, b"through")
    reader.join(20)
    assert received == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert named.is_symlink() == through_link


@posix
@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1"])
def test_an_open_stream_is_written_into(tmp_path: Path, name: str) -> None:
    if not Path(name).exists():
        pytest.skip(f"this system has no {name}")
    target = tmp_path / "redirected.txt"
    program = "import sys; from sonoseek.core.files import write_atomically; write_atomically(sys.argv[1], 'text')"
    with target.open("wb") as out:
        subprocess.run([sys.executable, "-c", program, name], stdout=out, check=True)
        inode = os.fstat(out.fileno()).st_ino
    assert target.read_text() == "text"
    assert target.stat().st_ino == inode
    assert names(tmp_path) == ["redirected.txt"]


@posix
def test_the_mode_of_the_file_before_is_kept(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a.txt", "old")
    path.chmod(0o640)
    write_atomically(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    mask = os.umask(0)
    os.umask(mask)
    new = write_atomically(tmp_path / "b.txt", "new")
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~mask


@posix
def test_private_files_and_folders_are_their_owner_s(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = tmp_path / "a" / "b"
        make_private_folder(folder)
        make_private_folder(folder)  # again: nothing to do
        new = write_atomically(folder / "new.txt", "new", mode=PRIVATE)
        with open_private(folder / "opened.txt") as file:
            file.write(b"new")
        assert [mode(path) for path in (tmp_path / "a", folder)] == [0o700] * 2
        assert [mode(path) for path in (new, folder / "opened.txt")] == [0o600] * 2
        for path in (new, folder / "opened.txt", folder):
            path.chmod(0o751)
        write_atomically(new, "newer", mode=PRIVATE)
        open_private(folder / "opened.txt").close()
        make_private_folder(folder)
        assert [mode(path) for path in (new, folder / "opened.txt", folder)] == [0o751] * 3
        with pytest.raises(FileExistsError):
            make_private_folder(new)
        with pytest.raises(FileExistsError):
            open_private(new, "xb")
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may give a file away")
def test_the_owner_of_the_file_before_is_kept(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a.txt", "old")
    os.chown(path, 12_345, 23_456)
    write_atomically(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12_345, 23_456)


def test_errors_name_the_file_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "no folder" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(missing, "x")
    assert caught.value.filename == str(missing)
    with pytest.raises(IsADirectoryError) as folder:
        write_atomically(tmp_path, "x")
    assert folder.value.filename == str(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_atomically(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught_full:
        write_atomically(path, "new")
    assert caught_full.value.filename == str(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, open_atomically(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_bytes()
    assert caught.value.filename == str(tmp_path / "other.txt")


@pytest.mark.parametrize("name", ["x" * 251 + ".txt", "ü" * 120 + ".txt"])
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path, name: str) -> None:
    assert write_atomically(tmp_path / name, "x").read_text() == "x"
