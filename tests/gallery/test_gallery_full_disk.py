"""Disks that are full, or cannot be written: said clearly, and nothing is lost."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from workload import BUNDLE_ID, DIMENSION, Expected, compare

from sonoseek.core import GalleryError, NotFoundError
from sonoseek.gallery import Gallery, create_gallery, open_gallery

QUERY = np.ones(DIMENSION, np.float32)


class SmallDisk:
    """A disk of four megabytes, in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Take all that is free, but for some bytes."""
        status = os.statvfs(self.folder)
        size = status.f_bavail * status.f_frsize - leave
        with self._ballast.open("ab") as file:
            file.write(bytes(max(size, 0)))

    def make_room(self) -> None:
        self._ballast.unlink()

    def write_protect(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[SmallDisk]:
    """Skips where nobody may mount; `test_a_file_that_may_not_grow` says the same of every system."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=4m", "sonoseek-test", folder], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root on Linux")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


def add_until_it_fails(gallery: Gallery, state: Expected, *, words: str) -> Expected:
    """Steps until one is refused; the state of those that were not."""
    for _ in range(500):
        step = state.next_step()
        try:
            step.run(gallery)
        except GalleryError as error:
            assert words in str(error)  # noqa: PT017  # those before it must not raise
            return state
        state = state.after(step)
    raise AssertionError("nothing was refused")


def test_a_full_disk_loses_nothing(disk):
    archive = disk.folder / "archive"
    with create_gallery(archive, bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        disk.fill(leave=1_500_000)
        state = add_until_it_fails(gallery, Expected(), words="disk is full")
        assert state.steps > 3
        for _ in range(3):
            add_until_it_fails(gallery, state, words="disk")
        assert not compare(gallery, state)
        assert gallery.verify() == ()
        assert len(gallery.search(QUERY, k=999).matches) == len(state.content)
        disk.make_room()
        state = go_on(gallery, state)
    with open_gallery(archive) as gallery:
        assert not compare(gallery, state)
        assert gallery.verify() == ()


def go_on(gallery: Gallery, state: Expected) -> Expected:
    step = state.next_step()
    step.run(gallery)
    state = state.after(step)
    assert not compare(gallery, state)
    assert gallery.verify() == ()
    return state


@pytest.mark.parametrize("leave", [0, 4_096, 40_000, 200_000])
def test_a_gallery_that_was_left_on_a_full_disk_opens(disk, leave):
    """Another process finds it so: with a log, without the memory that readers share, and with no room for a cache."""
    archive = disk.folder / "archive"
    with create_gallery(archive, bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        state = Expected()
        for _ in range(6):
            state = go_on(gallery, state)
        shutil.copytree(archive, disk.folder / "cut")  # as a killed process leaves it
    cut = disk.folder / "cut"
    for left in cut.glob("*-shm"):
        left.unlink()
    shutil.rmtree(archive)
    disk.fill(leave=leave)
    refused: list[str] = []
    for mode in ("r", "w"):
        try:
            with open_gallery(cut, mode) as gallery:
                assert not compare(gallery, state)
                assert len(gallery.search(QUERY, k=999).matches) == len(state.content)
                assert gallery.verify() == ()
        except GalleryError as error:
            refused.append(str(error))
    assert all("disk" in error for error in refused)
    assert not refused or leave < 40_000  # SQLite reads a log through memory that takes eight pages of the disk
    disk.make_room()
    with open_gallery(cut, "w") as gallery:
        assert not compare(gallery, state)
        go_on(gallery, state)


def test_a_search_needs_no_room_for_its_cache(disk):
    archive = disk.folder / "archive"
    with create_gallery(archive, bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        state = go_on(gallery, Expected())
        disk.fill()
        found = gallery.search(QUERY, k=999)
        assert len(found.matches) == len(state.content)
        assert [path.name for path in archive.iterdir() if "vectors" in path.name] == []
        disk.make_room()
        assert gallery.search(QUERY, k=999) == found


def test_a_gallery_on_a_full_disk_is_made_whole_or_not_at_all(disk):
    disk.fill(leave=20_000)
    with pytest.raises(GalleryError, match="disk"):
        create_gallery(disk.folder / "archive", bundle_id=BUNDLE_ID, dimension=DIMENSION)
    with pytest.raises(NotFoundError):
        open_gallery(disk.folder / "archive")
    disk.make_room()
    with create_gallery(disk.folder / "archive", bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        go_on(gallery, Expected())


@pytest.mark.parametrize("cached", [False, True], ids=["bare", "cached"])
def test_a_write_protected_disk_is_searched_and_not_written(disk, cached):
    archive = disk.folder / "archive"
    with create_gallery(archive, bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
        state = go_on(gallery, Expected())
        found = gallery.search(QUERY, k=999)
    if not cached:
        for path in archive.glob("*.vectors*"):
            path.unlink()
    disk.write_protect()
    with open_gallery(archive) as gallery:
        assert gallery.search(QUERY, k=999) == found
        assert not compare(gallery, state)
        assert gallery.verify() == ()
    with pytest.raises(GalleryError, match=r"write-protected|rights"), open_gallery(archive, "w") as gallery:
        state.next_step().run(gallery)


@pytest.mark.skipif(sys.platform == "win32", reason="the system sets no limits")
def test_a_file_that_may_not_grow(tmp_path):
    """A quota, which every system can play: the disk says no in another way than a full one."""
    script = """
import resource, sys
from test_gallery_full_disk import *
limit = 700_000
with create_gallery(sys.argv[1], bundle_id=BUNDLE_ID, dimension=DIMENSION) as gallery:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    state = add_until_it_fails(gallery, Expected(), words="disk")
    assert state.steps > 1
    assert not compare(gallery, state)
    assert gallery.verify() == ()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    state = go_on(gallery, state)
print(state.steps)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    state = Expected()
    while state.steps < int(done.stdout):
        state = state.after(state.next_step())
    with open_gallery(tmp_path) as gallery:
        assert not compare(gallery, state)
