"""A gallery on a real Milvus server: its filters, its size, and what happens when the server is not there."""

import dataclasses
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import numpy as np
import pytest
from gallery_contract import same
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_gallery_where import entries, evaluate, nodes, written  # noqa: F401  # a fixture, and what draws filters

from sonoseek.core import GalleryError, InvalidValueError, NotFoundError, TemporaryError, WhereError
from sonoseek.gallery import AddResult, GalleryEntry, create_gallery, open_gallery
from sonoseek.gallery.filter.milvus import compile_expression, quoted
from sonoseek.gallery.milvus.checks import find_largest_patients
from sonoseek.gallery.milvus.rows import entry_from_row, pair, scan_fields
from sonoseek.gallery.milvus.server import Server, parse_address
from sonoseek.gallery.sqlite.write import prepare_entries

long = [pytest.mark.long, pytest.mark.peer]
DIMENSION = 24


@pytest.fixture
def location(milvus) -> str:
    return f"{milvus}/g{uuid4().hex}"


@pytest.fixture
def gallery(location) -> Iterator:
    with create_gallery(location, bundle_id="b", dimension=DIMENSION) as made:
        yield made


# Rows and filters, without a server


def test_a_row_gives_the_entry_back_and_has_the_fields_that_filters_ask_for(make_entry):
    entry = make_entry(2)
    prepared = prepare_entries([entry], dimension=DIMENSION)
    ((key, case),) = prepared.cases.items()
    fields = scan_fields(case, prepared.scans[key][entry.scan_id])
    assert (fields["laterality"], fields["view"]) == ("=right", "=single")
    read = entry_from_row(fields, {"p": entry.picture})
    assert same(read, entry)
    assert compile_expression("view = 'left'", lambda _: ()) == 'view in ["=left"]'


def test_patients_are_counted_by_case(make_entry):
    class Rows:
        """A server that has these rows."""

        def every(self, name, expression, fields):
            for number in range(4):
                entry = make_entry(number // 2, dataset="ours", patient_id=None if number > 2 else "A17")
                record = entry.record
                yield {
                    "case_key": pair(record.dataset, record.case_id + (" b" if number > 2 else "")),
                    "patient_key": pair(record.dataset, record.patient_id),
                }

    (share,) = find_largest_patients(Rows(), "g")
    assert (share.dataset, share.patient_id, share.cases, share.total) == ("ours", "A17", 2, 3)


# Addresses


@pytest.mark.parametrize("location", ["milvus:///gallery.db", "milvus://./lite.db", "milvus:///tmp/x/y.db"])
def test_milvus_lite_is_refused_with_the_reason(location):
    with pytest.raises(GalleryError, match=r"Milvus Lite is not supported.*came back short.*0\.67"):
        open_gallery(location)


@pytest.mark.parametrize(
    "location", ["milvus://host", "milvus://host:19530/", "milvus://host/a-b", "milvus://host:x/g"]
)
def test_an_address_needs_a_name(location):
    with pytest.raises(InvalidValueError, match="milvus://HOST:PORT/NAME"):
        open_gallery(location)


def test_an_address_keeps_its_secret(monkeypatch):
    address = parse_address("milvus://reader:s%40cret@host:1234/breast")
    assert (address.uri, address.token, address.name) == ("http://host:1234", "reader:s@cret", "breast")
    assert address.shown == "milvus://host:1234/breast"
    monkeypatch.setenv("SONOSEEK_MILVUS_TOKEN", "key")
    assert parse_address("milvus://host/g").token == "key"  # noqa: S105  # no secret


@pytest.mark.parametrize("index", ["exact", "ivf"])
def test_the_server_has_one_index(index):
    with pytest.raises(InvalidValueError, match="HNSW"):
        open_gallery("milvus://127.0.0.1:1/g", index=index)


@given(st.text())
@example('"')
@example("\\")
@example('" or key != "')
def test_nothing_ends_a_literal(text):
    inner = quoted(text)[1:-1]
    assert '"' not in inner.replace("\\\\", "").replace('\\"', "")


# Trouble


def test_a_server_that_is_not_there_is_temporary_trouble(monkeypatch):
    pytest.importorskip("pymilvus")
    monkeypatch.setattr("sonoseek.gallery.milvus.gallery._SLOWEST_S", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(TemporaryError, match=f"127.0.0.1:{port}/g does not answer.*Check that the server runs"):
            open_gallery(f"milvus://127.0.0.1:{port}/g", timeout_s=0.5)


class Cable:
    """A way to a server that can be cut: a proxy on loopback."""

    def __init__(self, port: int) -> None:
        self._to, self._cut = port, threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._cut.is_set():
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self._cut.set()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open = []

    def mend(self) -> None:
        self._cut.clear()

    def close(self) -> None:
        self.cut()
        self._listener.close()


@pytest.fixture(scope="module")
def filled(milvus, entries) -> Iterator:  # noqa: F811
    with create_gallery(f"{milvus}/g{uuid4().hex}", bundle_id="b", dimension=DIMENSION) as made:
        made.add(entries)
        yield made


class TestOnAServer:
    pytestmark = long

    @pytest.fixture
    def cable(self, milvus) -> Iterator[Cable]:
        made = Cable(int(milvus.rsplit(":", 1)[1]))
        yield made
        made.close()

    def test_a_server_that_is_lost_in_the_middle(self, location, gallery, cable, make_entries, monkeypatch):
        gallery.add(make_entries(25))
        monkeypatch.setattr("sonoseek.gallery.milvus.gallery._SLOWEST_S", 3.0)
        name = location.rsplit("/", 1)[1]
        with open_gallery(f"milvus://127.0.0.1:{cable.port}/{name}", "w", timeout_s=3.0) as other:
            assert other.count() == 25
            cable.cut()
            for ask in (
                other.count,
                lambda: other.search(np.ones(DIMENSION, np.float32)),
                lambda: other.add(make_entries(30)),
            ):
                with pytest.raises(TemporaryError, match="does not answer"):
                    ask()
            cable.mend()
            for _ in range(20):  # the connection finds its way back by itself
                with suppress(TemporaryError):
                    assert other.add(make_entries(30)) == AddResult(added=5, unchanged=25)
                    break
            assert other.count() == gallery.count() == 30
            assert other.verify() == ()

    def test_short_trouble_is_waited_out(self, gallery, make_entries, monkeypatch):
        gallery.add(make_entries(3))
        client, fails = gallery._server.client, iter([True, True, False])
        real = client.query

        def flaky(*given, **options):
            if next(fails, False):
                raise RuntimeError("StatusCode.UNAVAILABLE: try again")
            return real(*given, **options)

        monkeypatch.setattr(client, "query", flaky)
        assert gallery.count() == 3

    def test_an_add_that_was_broken_off_is_completed_by_adding_again(self, gallery, make_entries, monkeypatch):
        entries_ = make_entries(40)
        gallery.add(entries_[:10])
        real, calls = Server.upsert, []

        def breaks(self, name, rows):
            calls.append(name)
            if len(calls) == 2:  # pictures are written, scans are not
                raise TemporaryError("the server is gone")
            real(self, name, rows)

        monkeypatch.setattr(Server, "upsert", breaks)
        with pytest.raises(TemporaryError):
            gallery.add(entries_)
        monkeypatch.setattr(Server, "upsert", real)
        assert gallery.count() == 10
        assert gallery.verify() == ()
        assert gallery.add(entries_) == AddResult(added=30, unchanged=10)
        assert gallery.verify() == ()

    def test_a_gallery_of_another_schema_is_refused(self, location, gallery, monkeypatch):
        monkeypatch.setattr("sonoseek.gallery.milvus.collections.SCHEMA_VERSION", 3)
        with pytest.raises(GalleryError, match="schema version 2"):
            open_gallery(location)
        with pytest.raises(NotFoundError, match="index build"):
            open_gallery(location + "x")

    # What it holds

    def test_another_process_sees_what_was_written(self, location, gallery, make_entries):
        script = (
            "import sys, numpy as np; from sonoseek.gallery import open_gallery\n"
            "with open_gallery(sys.argv[1], 'w') as g:\n"
            "    print(g.count(), len(g.search(np.ones(24, np.float32)).matches))\n"
            "    g.remove(cases=[('phantom', 'case 0000')])\n"
        )
        for number in range(2, 5):
            gallery.add(make_entries(number))
            said = subprocess.run(
                [sys.executable, "-c", script, location], capture_output=True, text=True, check=True, timeout=60
            ).stdout
            assert said.split() == [str(number)] * 2
            assert gallery.count() == number - 1

    def test_large_pictures_are_kept_in_pieces(self, gallery, make_entry):
        rng = np.random.default_rng(0)
        for size in (47_999, 48_001, 400_000):
            entry = dataclasses.replace(
                make_entry(1), picture=b"\xff\xd8" + rng.bytes(size), evidence=rng.bytes(size // 3)
            )
            gallery.add([entry])
            kept = gallery.get(entry.scan_id)
            assert (kept.picture, kept.evidence) == (entry.picture, entry.evidence)
            assert gallery.search(entry.embedding, k=1).matches[0].picture == entry.picture
        assert gallery._server.count(gallery._pieces_name, 'owner != ""') == 9 + 3  # what was replaced is gone

    def test_what_is_longer_than_milvus_keeps_is_refused(self, gallery, make_entry):
        with pytest.raises(InvalidValueError, match=r"histology.*8192"):
            gallery.add([make_entry(0), make_entry(1, histology="x" * 9_000)])
        assert gallery.count() == 0

    def test_there_and_back(self, gallery, make_entries, tmp_path):
        entries_ = make_entries(30)
        gallery.add(entries_)
        gallery.copy_to(tmp_path / "copy")
        with open_gallery(tmp_path / "copy") as copy:
            assert [e.record for e in copy] == [e.record for e in entries_]
            query = entries_[3].embedding
            assert copy.search(query) == gallery.search(query)

    # Filters

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(node=nodes, data=st.data())
    def test_milvus_and_python_agree_on_every_filter(self, filled, entries, node, data):  # noqa: F811
        where = written(node, data.draw)
        expected = {entry.record.case_id for entry in entries if evaluate(node, entry) is True}
        found = filled.search(entries[0].embedding, k=len(entries), where=where, novelty=False, pictures=False)
        assert {match.case_id for match in found.matches} == expected, where

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(text=st.text(max_size=40))
    @example(text="x' or key != '")
    @example(text='x" or key != "')
    @example(text="a\x00b\n\t\\")
    @example(text="\u2028 \U0001f600 \x7f")
    def test_no_value_ends_its_literal(self, filled, entries, text):  # noqa: F811
        where = "device = '" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        expected = sum(entry.record.device == text for entry in entries)
        try:
            found = filled.search(entries[0].embedding, k=500, where=where, novelty=False, pictures=False)
        except WhereError:
            return
        assert len(found.matches) == expected

    def test_long_chains_and_lists_run(self, filled, entries):  # noqa: F811
        query = entries[0].embedding
        chain = " or ".join(f"case = 'case {number:04d}'" for number in range(120))
        assert len(filled.search(query, k=200, where=chain, novelty=False, pictures=False).matches) == 120
        ages = "age in (" + ", ".join(str(number) for number in range(100)) + ")"
        known = sum(entry.record.age_years is not None and entry.record.age_years % 1 == 0 for entry in entries)
        assert len(filled.search(query, k=200, where=ages, novelty=False, pictures=False).matches) == known

    def test_filtered_searches_are_never_short(self, gallery, make_entry):
        rng = np.random.default_rng(1)
        count = 5_000
        vectors = rng.normal(size=(30, DIMENSION))[rng.integers(0, 30, count)] * 2 + rng.normal(size=(count, DIMENSION))
        rare, half = rng.random(count) < 0.01, rng.random(count) < 0.5
        model = make_entry(0).record
        made = [
            GalleryEntry(
                record=dataclasses.replace(
                    model, case_id=f"{n:05d}", group=None, patient_id=None,
                    device="rare" if rare[n] else "usual", histology="half" if half[n] else None,
                ),
                scan_id=f"{n:064x}", embedding=vectors[n].astype(np.float32), scan_shape=(24, 32),
            )
            for n in range(count)
        ]  # fmt: skip
        gallery.add(made)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        hits = []
        for where, passes in (("device = 'rare'", rare), ("histology = 'half'", half), (None, np.ones(count, bool))):
            for query in unit[::500] + 0.02 * rng.normal(size=(10, DIMENSION)):
                found = gallery.search(query.astype(np.float32), where=where, novelty=False, pictures=False).matches
                assert len(found) == 10
                assert all(passes[int(match.scan_id, 16)] for match in found)
                best = np.argsort(-np.where(passes, unit @ query, -9))[:10]
                hits.append(len({int(match.scan_id, 16) for match in found} & set(best.tolist())))
        assert np.mean(hits) >= 9.9
        every = gallery.search(unit[0].astype(np.float32), k=rare.sum() + 5, where="device = 'rare'", pictures=False)
        assert len(every.matches) == rare.sum()
        assert len(gallery.search(unit[0].astype(np.float32), k=count, pictures=False).matches) == count
