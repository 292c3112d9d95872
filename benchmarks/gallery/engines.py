"""Other search engines behind one interface, measured beside ours. A package is imported when its engine is used.

Each keeps row numbers, vectors and the 1 % filter's flag on disk, is built by one process and searched by another.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import NotFoundError

Blocks = Iterator[tuple[int, NDArray[np.float32], NDArray[np.uint8]]]
ONE = 2
"""The bit of the 1 % filter in a row's flags."""


class Peer(Protocol):
    """An engine in a folder of its own."""

    package: str
    """What must be importable."""
    stated: str
    """What its documentation states of a committed batch after a power cut; used where it cannot be measured."""

    def __init__(self, folder: Path) -> None:
        """Nothing is opened yet."""
        ...

    def build(self, blocks: Blocks, *, rows: int, dims: int) -> None:
        """Write everything, with its index."""
        ...

    def open(self) -> None:
        """Open for searching."""
        ...

    def search(self, query: NDArray[np.float32], k: int, *, only_one: bool) -> list[int]:
        """Row numbers, best first; with `only_one` only of rows that pass the 1 % filter."""
        ...

    def commit(self, vectors: NDArray[np.float32], first: int) -> None:
        """Add a batch and commit it."""
        ...


class _Faiss:
    package = "faiss"
    stated = "no: the index lives in memory; write_index calls no fsync"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "index.faiss"
        self._flags = folder / "flags.npy"

    def _make(self, faiss: Any, rows: int, dims: int) -> Any:
        raise NotImplementedError

    def build(self, blocks: Blocks, *, rows: int, dims: int) -> None:
        faiss = importlib.import_module("faiss")
        index = self._make(faiss, rows, dims)
        flags, buffer = [], []
        for _, vectors, bits in blocks:
            flags.append(bits)
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            if index.is_trained:
                index.add(unit)
                continue
            buffer.append(unit)  # trained on the first 100,000: later blocks are of the same kind
            if sum(map(len, buffer)) >= min(rows, 100_000):
                index.train(np.concatenate(buffer))
                index.add(np.concatenate(buffer))
                buffer = []
        faiss.write_index(index, str(self._file))
        np.save(self._flags, np.concatenate(flags))

    def open(self) -> None:
        faiss = importlib.import_module("faiss")
        self._index = faiss.read_index(str(self._file))
        allowed = np.flatnonzero(np.load(self._flags) & ONE)
        self._allowed = allowed
        self._selector = faiss.IDSelectorBatch(allowed)
        self._parameters(faiss)

    def _parameters(self, faiss: Any) -> None:
        self._free = None
        self._filtered = faiss.SearchParameters(sel=self._selector)

    def search(self, query: NDArray[np.float32], k: int, *, only_one: bool) -> list[int]:
        _, rows = self._index.search(query[None], k, params=self._filtered if only_one else self._free)
        return [int(row) for row in rows[0] if row >= 0]

    def commit(self, vectors: NDArray[np.float32], first: int) -> None:  # noqa: ARG002  # it numbers rows itself
        faiss = importlib.import_module("faiss")
        index = faiss.read_index(str(self._file))
        index.add(vectors)
        faiss.write_index(index, str(self._file))


class FaissFlat(_Faiss):
    """Every row, float32."""

    def _make(self, faiss: Any, rows: int, dims: int) -> Any:  # noqa: ARG002
        return faiss.IndexFlatIP(dims)


class FaissIvf(_Faiss):
    """Inverted file of about 4 √N lists, 8 bits a number, an eighth of the lists probed, at most 64."""

    def _make(self, faiss: Any, rows: int, dims: int) -> Any:
        lists = int(np.clip(4 * np.sqrt(rows), 16, min(2_048, max(16, rows // 40))))
        kind = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(dims), dims, lists, kind, faiss.METRIC_INNER_PRODUCT)

    def _parameters(self, faiss: Any) -> None:
        probes = int(np.clip(self._index.nlist // 8, 4, 64))
        self._free = faiss.SearchParametersIVF(nprobe=probes)
        self._filtered = faiss.SearchParametersIVF(nprobe=probes, sel=self._selector)


class FaissHnsw(_Faiss):
    """A graph with 16 links a row, 8 bits a number, efSearch 64."""

    def _make(self, faiss: Any, rows: int, dims: int) -> Any:  # noqa: ARG002
        index = faiss.IndexHNSWSQ(dims, faiss.ScalarQuantizer.QT_8bit, 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 100
        return index

    def _parameters(self, faiss: Any) -> None:
        self._free = faiss.SearchParametersHNSW(efSearch=64)
        self._filtered = faiss.SearchParametersHNSW(efSearch=64, sel=self._selector)


class Hnswlib:
    """A graph with 16 links a row, float32, ef 64; the filter is a function called for every row on the way."""

    package = "hnswlib"
    stated = "no: the index lives in memory; save_index calls no fsync"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "index.hnsw"
        self._flags = folder / "flags.npy"

    def build(self, blocks: Blocks, *, rows: int, dims: int) -> None:
        """See `Peer.build`."""
        index = importlib.import_module("hnswlib").Index(space="cosine", dim=dims)
        index.init_index(max_elements=rows, ef_construction=100, M=16)
        flags = []
        for first, vectors, bits in blocks:
            index.add_items(vectors, np.arange(first, first + len(vectors)), num_threads=1)
            flags.append(bits)
        index.save_index(str(self._file))
        np.save(self._flags, np.concatenate(flags))

    def open(self, *, room: int = 0) -> None:
        """See `Peer.open`."""
        flags = np.load(self._flags)
        index = importlib.import_module("hnswlib").Index(space="cosine", dim=self._dims())
        index.load_index(str(self._file), max_elements=len(flags) + room)
        index.set_ef(64)
        index.set_num_threads(1)
        self._index, self._one = index, frozenset(np.flatnonzero(flags & ONE).tolist())

    def _dims(self) -> int:
        return int(np.load(self._file.with_name("dims.npy")))

    def search(self, query: NDArray[np.float32], k: int, *, only_one: bool) -> list[int]:
        """See `Peer.search`; [] where hnswlib finds fewer than `k` on its way and raises."""
        try:
            rows, _ = self._index.knn_query(query, k, filter=self._one.__contains__ if only_one else None)
        except RuntimeError:
            return []
        return [int(row) for row in rows[0]]

    def commit(self, vectors: NDArray[np.float32], first: int) -> None:
        """See `Peer.commit`."""
        self.open(room=len(vectors))
        self._index.add_items(vectors, np.arange(first, first + len(vectors)))
        self._index.save_index(str(self._file))


class _Lance:
    package = "lancedb"
    stated = "no: its commits are known to call no fsync"
    indexed = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "lance"

    def build(self, blocks: Blocks, *, rows: int, dims: int) -> None:
        arrow = importlib.import_module("pyarrow")
        database = importlib.import_module("lancedb").connect(str(self._folder))

        kind = arrow.schema(
            [("row", arrow.int64()), ("one", arrow.bool_()), ("vector", arrow.list_(arrow.float32(), dims))]
        )

        def batches() -> Iterator[Any]:
            for first, vectors, bits in blocks:
                columns = [
                    arrow.array(np.arange(first, first + len(vectors))),
                    arrow.array((bits & ONE) > 0),
                    arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), dims),
                ]
                yield arrow.RecordBatch.from_arrays(columns, schema=kind)

        table = database.create_table("rows", arrow.RecordBatchReader.from_batches(kind, batches()))
        if self.indexed:
            lists = int(np.clip(np.sqrt(rows), 4, 1_024))
            parts = next(part for part in (dims // 16, dims // 8, dims // 4, 1) if part and dims % part == 0)
            table.create_index(
                metric="cosine", vector_column_name="vector", num_partitions=lists, num_sub_vectors=parts
            )

    def open(self) -> None:
        self._table = importlib.import_module("lancedb").connect(str(self._folder)).open_table("rows")

    def search(self, query: NDArray[np.float32], k: int, *, only_one: bool) -> list[int]:
        request = self._table.search(query).distance_type("cosine").select(["row", "_distance"]).limit(k)
        request = request.nprobes(20).refine_factor(10) if self.indexed else request.bypass_vector_index()
        if only_one:
            request = request.where("one = true", prefilter=True)
        return [int(row) for row in request.to_arrow()["row"].to_pylist()]

    def commit(self, vectors: NDArray[np.float32], first: int) -> None:
        self.open()
        self._table.add([{"row": first + at, "one": False, "vector": vectors[at]} for at in range(len(vectors))])


class LanceExact(_Lance):
    """LanceDB without an index."""


class LanceIvfPq(_Lance):
    """LanceDB's recommended index, IVF_PQ; 20 lists probed, ten times as many ranked again."""

    indexed = True


class DuckDb:
    """DuckDB's exact scan by array_cosine_similarity; its vss extension would have to be downloaded."""

    package = "duckdb"
    stated = "yes: it writes ahead and flushes at commit"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "rows.duckdb"

    def build(self, blocks: Blocks, *, rows: int, dims: int) -> None:  # noqa: ARG002
        """See `Peer.build`."""
        arrow = importlib.import_module("pyarrow")
        connection = importlib.import_module("duckdb").connect(str(self._file))
        connection.execute(f'CREATE TABLE vectors ("row" BIGINT, one BOOLEAN, vector FLOAT[{dims}])')
        for first, vectors, bits in blocks:
            block = arrow.table(
                {
                    "row": np.arange(first, first + len(vectors)),
                    "one": (bits & ONE) > 0,
                    "vector": arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), dims),
                }
            )
            connection.register("block", block)
            connection.execute("INSERT INTO vectors SELECT * FROM block")
        connection.close()

    def open(self) -> None:
        """See `Peer.open`."""
        self._connection = importlib.import_module("duckdb").connect(str(self._file), read_only=True)
        self._connection.execute("SET threads = 1")

    def search(self, query: NDArray[np.float32], k: int, *, only_one: bool) -> list[int]:
        """See `Peer.search`."""
        clause = "WHERE one" if only_one else ""
        similar = f"array_cosine_similarity(vector, ?::FLOAT[{len(query)}])"
        sql = f'SELECT "row" FROM vectors {clause} ORDER BY {similar} DESC LIMIT {k}'  # noqa: S608  # numbers alone
        return [int(row) for (row,) in self._connection.execute(sql, [query.tolist()]).fetchall()]

    def commit(self, vectors: NDArray[np.float32], first: int) -> None:
        """See `Peer.commit`."""
        connection = importlib.import_module("duckdb").connect(str(self._file))
        connection.execute("BEGIN")
        for at, vector in enumerate(vectors):
            connection.execute("INSERT INTO vectors VALUES (?, false, ?)", [first + at, vector.tolist()])
        connection.execute("COMMIT")
        connection.close()


class SqliteVec:
    """sqlite-vec's virtual table, an exact scan."""

    package = "sqlite_vec"
    stated = "yes: SQLite's own, synchronous=FULL"

    def __init__(self, folder: Path) -> None:
        self._file = folder / "rows.db"

    def _connect(self) -> Any:
        connection = importlib.import_module("sqlite3").connect(self._file)
        if not hasattr(connection, "enable_load_extension"):
            raise NotFoundError("this Python's sqlite3 loads no extensions; sqlite-vec needs one that does.")
        connection.enable_load_extension(True)
        importlib.import_module("sqlite_vec").load(connection)
        return connection

    def build(self, blocks: Blocks, *, rows: int, dims: int) -> None:  # noqa: ARG002
        """See `Peer.build`."""
        connection = self._connect()
        connection.execute(
            f"CREATE VIRTUAL TABLE vectors USING vec0(id INTEGER PRIMARY KEY, one INTEGER, "
            f"vector FLOAT[{dims}] distance_metric=cosine)"
        )
        for first, vectors, bits in blocks:
            flags = ((bits & ONE) > 0).astype(int).tolist()
            with connection:
                connection.executemany(
                    "INSERT INTO vectors (id, one, vector) VALUES (?, ?, ?)",
                    [(first + at, flags[at], vectors[at].tobytes()) for at in range(len(vectors))],
                )
        connection.close()

    def open(self) -> None:
        """See `Peer.open`."""
        self._connection = self._connect()

    def search(self, query: NDArray[np.float32], k: int, *, only_one: bool) -> list[int]:
        """See `Peer.search`."""
        clause = "AND one = 1" if only_one else ""
        sql = f"SELECT id FROM vectors WHERE vector MATCH ? AND k = ? {clause} ORDER BY distance"  # noqa: S608
        return [int(row) for (row,) in self._connection.execute(sql, (query.tobytes(), k))]

    def commit(self, vectors: NDArray[np.float32], first: int) -> None:
        """See `Peer.commit`."""
        connection = self._connect()
        with connection:
            connection.executemany(
                "INSERT INTO vectors (id, one, vector) VALUES (?, 0, ?)",
                [(first + at, vectors[at].tobytes()) for at in range(len(vectors))],
            )
        connection.close()


PEERS: dict[str, type[Peer]] = {
    "faiss Flat": FaissFlat,
    "faiss IVF-SQ8": FaissIvf,
    "faiss HNSW-SQ8": FaissHnsw,
    "hnswlib": Hnswlib,
    "LanceDB exact": LanceExact,
    "LanceDB IVF_PQ": LanceIvfPq,
    "DuckDB": DuckDb,
    "sqlite-vec": SqliteVec,
}


def installed(name: str) -> bool:
    """Whether the package of a peer of `PEERS` can be imported."""
    return importlib.util.find_spec(PEERS[name].package) is not None
