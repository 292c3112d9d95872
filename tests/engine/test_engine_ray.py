"""Index builds on a real Ray cluster of two node processes on this machine, one of which is killed in the middle."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sonoseek.core import BundleError, BundleMismatchError, DatasetError, MissingExtraError, TemporaryError
from sonoseek.datasets import open_dataset
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import load_bundle
from sonoseek.gallery import Gallery, create_gallery, open_gallery
from sonoseek.indexing.build import build_index
from sonoseek.indexing.case_ids import opaque_id
from sonoseek.indexing.ray import build_index_on_ray

pytestmark = [
    pytest.mark.peer,
    pytest.mark.long,
    # Ray and what it imports warn of themselves, in threads of their own too.
    pytest.mark.filterwarnings("ignore"),
]
STORE = {"object_store_memory": 200_000_000}
DRAWN = 40
"""Phantoms that are drawn; the rest are these, shifted and with noise: drawing 5,000 would take minutes."""


def write_scans(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    drawn = PhantomDataset(count=DRAWN, seed=3)
    scans = [(record.pathology, drawn.load(record.case_id).scans[0].pixels) for record in drawn.records()]
    for number in range(count):
        pathology, pixels = scans[number % DRAWN]
        varied = np.roll(pixels, int(rng.integers(0, 60)), axis=1).astype(int) + rng.integers(-6, 7, pixels.shape)
        (folder / pathology).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(varied, 0, 255).astype(np.uint8)).save(
            folder / pathology / f"scan {number:05d}.png", compress_level=1
        )


@pytest.fixture
def cluster(monkeypatch) -> Iterator[Any]:
    """Two nodes of one core each; `cluster.second` is the one to kill."""
    pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    import ray
    from ray.cluster_utils import Cluster

    started = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, **STORE},
    )
    started.second = started.add_node(num_cpus=1, **STORE)
    started.wait_for_nodes()
    try:
        yield started
    finally:
        ray.shutdown()
        started.shutdown()


def new_gallery(place: Path) -> Gallery:
    bundle = load_bundle(None)
    return create_gallery(place, bundle_id=bundle.bundle_id, dimension=bundle.embedding_dim, exist_ok=True)


def kill(node: Any) -> None:
    """Every process of a node, at once, as a power cut would."""
    for processes in list(node.all_processes.values()):
        for each in processes:
            os.kill(each.process.pid, signal.SIGKILL)


def build_and_kill(cluster: Any, scans: Path, gallery: Gallery, *, count: int) -> Any:
    """Build; kill the second node once a third of the cases is done. The result of the build."""
    killed = threading.Event()

    def on_progress(done: int, total: int) -> None:
        assert done <= total == count
        if done >= count // 3 and not killed.is_set():
            kill(cluster.second)
            killed.set()

    result = build_index_on_ray("folder", scans, gallery, address=cluster.address, on_progress=on_progress)
    assert killed.is_set()
    return result


def check_whole(gallery: Gallery, scans: Path, count: int) -> None:
    entries = list(gallery)
    assert len(entries) == len({entry.scan_id for entry in entries}) == count
    dataset = open_dataset("folder", scans)
    names = {opaque_id("folder", record.case_id) for record in dataset.records()}
    assert {entry.record.case_id for entry in entries} == names
    assert gallery.verify() == ()


def test_a_node_that_is_killed_costs_no_scan(cluster, tmp_path):
    write_scans(tmp_path / "scans", 240)
    broken = tmp_path / "scans" / "benign" / "broken.png"
    broken.write_bytes(b"\x89PNG nothing")
    with new_gallery(tmp_path / "gallery") as gallery:
        result = build_and_kill(cluster, tmp_path / "scans", gallery, count=241)
        assert (result.added, result.updated, result.unchanged) == (240, 0, 0)
        assert [refusal.source for refusal in result.refused] == ["folder/benign/broken.png"]
        broken.unlink()
        check_whole(gallery, tmp_path / "scans", 240)
        again = build_index_on_ray("folder", tmp_path / "scans", gallery, address=cluster.address)
        assert (again.added, again.unchanged) == (0, 240)
    with new_gallery(tmp_path / "plain") as plain, open_gallery(tmp_path / "gallery") as other:
        build_index(open_dataset("folder", tmp_path / "scans"), plain, encoder=_encoder())
        for one, two in zip(plain, other, strict=True):
            assert (one.scan_id, one.record, one.picture, one.evidence) == (
                two.scan_id,
                two.record,
                two.picture,
                two.evidence,
            )


@pytest.mark.slow
def test_five_thousand_scans_and_a_node_killed_in_the_middle(cluster, tmp_path):
    write_scans(tmp_path / "scans", 5_000)
    started = time.perf_counter()
    with new_gallery(tmp_path / "gallery") as gallery:
        result = build_and_kill(cluster, tmp_path / "scans", gallery, count=5_000)
        print(f"\n5,000 scans in {time.perf_counter() - started:.0f} s, one of two nodes killed")
        assert (result.added, result.updated, result.unchanged, result.refused) == (5_000, 0, 0, ())
        check_whole(gallery, tmp_path / "scans", 5_000)


def test_a_build_that_was_stopped_continues(cluster, tmp_path):
    write_scans(tmp_path / "scans", 120)

    def stop(done: int, total: int) -> None:
        if done == 70:
            raise KeyboardInterrupt

    with new_gallery(tmp_path / "gallery") as gallery:
        with pytest.raises(KeyboardInterrupt):
            build_index_on_ray("folder", tmp_path / "scans", gallery, address=cluster.address, on_progress=stop)
        kept = gallery.count()
        assert kept >= 64
        result = build_index_on_ray("folder", tmp_path / "scans", gallery, address=cluster.address)
        assert (result.added, result.unchanged) == (120 - kept, kept)
        check_whole(gallery, tmp_path / "scans", 120)


def test_workers_that_do_not_see_the_files_say_so(cluster, tmp_path):
    """The driver lists the cases; then the folder is gone, as on a machine without the shared storage."""
    write_scans(tmp_path / "scans", 40)
    with new_gallery(tmp_path / "gallery") as gallery:

        def lose(done: int, total: int) -> None:
            if done == 0 and (tmp_path / "scans").exists():
                (tmp_path / "scans").rename(tmp_path / "elsewhere")

        with pytest.raises(DatasetError, match="same path"):
            build_index_on_ray("folder", tmp_path / "scans", gallery, address=cluster.address, on_progress=lose)
        assert gallery.count() == 0


def test_workers_with_another_bundle_are_refused(cluster, tmp_path):
    write_scans(tmp_path / "scans", 6)
    with new_gallery(tmp_path / "gallery") as gallery:
        with pytest.raises(BundleError):
            build_index_on_ray(
                "folder", tmp_path / "scans", gallery, tmp_path / "no such bundle", address=cluster.address
            )
        assert gallery.count() == 0


def test_a_cluster_that_does_not_answer_is_temporary_trouble(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    write_scans(tmp_path / "scans", 1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with new_gallery(tmp_path / "gallery") as gallery, pytest.raises(TemporaryError, match="ray start --head"):
        build_index_on_ray("folder", tmp_path / "scans", gallery, address=f"127.0.0.1:{port}")


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    write_scans(tmp_path / "scans", 1)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with new_gallery(tmp_path / "gallery") as gallery, pytest.raises(MissingExtraError, match=r"\.\[ray\]"):
        build_index_on_ray("folder", tmp_path / "scans", gallery, address="auto")


def test_another_bundle_s_gallery_is_refused(tmp_path):
    with (
        create_gallery(tmp_path / "g", bundle_id="other-1", dimension=3) as gallery,
        pytest.raises(BundleMismatchError, match="other-1"),
    ):
        build_index_on_ray("phantom", None, gallery, address="auto")


def test_the_command_line_builds_on_this_machine_s_own_cluster(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    from sonoseek.apps.cli.main import app

    write_scans(tmp_path / "scans", 20)
    given = ["index", "build", "-g", str(tmp_path / "g"), "--dataset", "folder", "--data", str(tmp_path / "scans")]
    result = CliRunner().invoke(app, [*given, "--ray", "local", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "20 added" in result.output
    with open_gallery(tmp_path / "g") as gallery:
        check_whole(gallery, tmp_path / "scans", 20)


def _encoder() -> Any:
    from sonoseek.encoder import open_encoder

    return open_encoder(threads=1)
