"""The power cut: what a real process wrote, replayed up to every flush, and what a disk may make of the rest.

Each state that a cut can leave is put on disk and opened. Everything acknowledged must be there, nothing twice, and the
change under way whole or not at all.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from replay import Disk, Record, read_log
from workload import DIMENSION, Difference, Expected, compare, states

from sonoseek.core import NotFoundError
from sonoseek.gallery import open_gallery

HERE = Path(__file__).parent
STEPS = 72
"""Of the recording: adds, updates and removals, enough that the log is folded into the file several times."""
BIGGEST = 14
SPREAD = ("synced", "all", "some", "some", "some")
"""What a cut is tried with."""
WRITER = """
import sys
from pathlib import Path
import numpy as np
import workload
from sonoseek.gallery import create_gallery, open_gallery

root, folder, steps, most = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with (root / "acks").open("w", buffering=1) as acks:
    gallery = create_gallery(root / folder, bundle_id=workload.BUNDLE_ID, dimension=workload.DIMENSION)
    acks.write("created\\n")
    state = workload.Expected()
    for number in range(steps):
        step = state.next_step(most=most)
        step.run(gallery)
        acks.write(f"{number}\\n")
        state = state.after(step)
        if number % 9 == 4:
            gallery.search(np.ones(workload.DIMENSION, np.float32))
        if number in (steps // 3, 2 * steps // 3):
            gallery.close()
            gallery = open_gallery(root / folder, "w")
    gallery.close()
"""


@dataclass(frozen=True)
class Recording:
    """What the writer did.

    Attributes:
        root: the folder it was given.
        archive: of the gallery, below it.
        records: every call, in order.
        left: path → content of what it really left.
        expected: the state after 0, 1, … steps.
    """

    root: Path
    archive: str
    records: list[Record]
    left: dict[str, bytes]
    expected: list[Expected]


@dataclass
class Tally:
    """What was found at how many cuts, in how many states that differ."""

    cuts: int = 0
    states: int = 0
    missing: int = 0
    wrong: list[tuple[int, Difference]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    seen: set[tuple[int, bytes]] = field(default_factory=set)

    @property
    def lost(self) -> int:
        return sum(difference.lost for _, difference in self.wrong)

    @property
    def doubled(self) -> int:
        return sum(difference.doubled for _, difference in self.wrong)


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of files are written, and none must last."""
    memory = Path("/dev/shm")  # noqa: S108  # not a name that can be guessed: a folder is drawn in it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def library(work) -> Path:
    """`powercut.c`, compiled."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if sys.platform != "linux" or compiler is None:
        pytest.skip("recording what a process writes needs Linux and a C compiler")
    made = work / "powercut.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, HERE / "powercut.c", "-lpthread"], check=True)
    return made


def record(work: Path, library: Path, *, archive: str, steps: int) -> Recording:
    """Let a process of its own write, and read what it did."""
    root = Path(tempfile.mkdtemp(dir=work))
    log = root.with_suffix(".log")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "LD_PRELOAD": str(library),
        "POWERCUT_ROOT": str(root),
        "POWERCUT_LOG": str(log),
        "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
    }
    command = [sys.executable, "-c", WRITER, root, archive, str(steps), str(BIGGEST)]
    subprocess.run(command, env=environment, check=True, timeout=120)
    records = read_log(log)
    if not any(record.op == "W" and record.name.endswith("-wal") for record in records):
        pytest.skip("this build of SQLite writes past the preloaded library: nothing was recorded")
    left = {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "acks"}
    return Recording(root, archive, records, left, list(states(steps, most=BIGGEST)))


@pytest.fixture(scope="module")
def recording(work, library) -> Recording:
    return record(work, library, archive="archive", steps=STEPS)


def cuts_of(recording: Recording, *, between: int, seed: int = 0) -> list[int]:
    """How many records happen before the cut: up to each flush, with it, after each acknowledgement, and in between."""
    chance = random.Random(seed)
    cuts = {0, len(recording.records)}
    for place, record in enumerate(recording.records):
        if record.op in "SRLU":
            cuts |= {place, place + 1}
        elif record.name == "acks":
            cuts.add(place + 1)
    cuts |= {chance.randrange(len(recording.records)) for _ in range(between)}
    return sorted(cuts)


def check(recording: Recording, folder: Path, cuts: list[int], *, kind: bool, honest: bool = True) -> Tally:
    """Replay up to each cut and look at every state that it may leave."""
    tally = Tally()
    disk = Disk(str(recording.root), kind=kind, honest=honest)
    done = 0
    for cut in cuts:
        for record in recording.records[done:cut]:
            disk.run(record)
        done = cut
        tally.cuts += 1
        for number, survival in enumerate(SPREAD):
            left = disk.files(survival, seed=1_000 * cut + number)
            digest = hashlib.blake2b(repr(sorted(left)).encode())
            for content in left.values():
                digest.update(content or b"")
            state = disk.acknowledged, digest.digest()
            if state not in tally.seen:
                tally.seen.add(state)
                put(left, recording.root, folder)
                look(recording, folder, disk.acknowledged, tally, cut, write=len(tally.seen) % 2 == 0)
    return tally


def put(left: dict[str, bytes | None], root: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in left.items():
        path = folder / Path(name).relative_to(root)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)


def look(recording: Recording, folder: Path, acknowledged: int, tally: Tally, cut: int, *, write: bool) -> None:
    """Open what a cut left: all that was acknowledged, the creation being the first, and at most one step more."""
    tally.states += 1
    steps = max(acknowledged - 1, 0)
    possible = recording.expected[steps : steps + 2] if acknowledged else recording.expected[:1]
    try:
        with open_gallery(folder / recording.archive, "w" if write else "r") as gallery:
            entries = list(gallery)
            differences = [compare(entries, state) for state in possible]
            problems = gallery.verify()
            if gallery.count() != len(entries):
                problems += (f"{gallery.count()} counted, {len(entries)} found",)
            query = np.ones(DIMENSION, np.float32)
            found = gallery.search(query, k=99, pictures=False).matches
            cosines = sorted((cosine(entry.embedding, query) for entry in entries), reverse=True)
            if not np.allclose([match.similarity for match in found], cosines, atol=1e-6):
                problems += ("a search says other similarities than the embeddings",)
            if write and not all(differences):
                state = possible[differences.index(Difference())]
                step = state.next_step(most=BIGGEST)
                step.run(gallery)
                if compare(gallery, state.after(step)):
                    problems += ("writing does not go on as it should",)
    except NotFoundError:
        tally.missing += 1
        if acknowledged:
            tally.wrong.append((cut, Difference(lost=len(possible[0].content) or 1)))
        return
    except Exception as error:  # of whatever kind: the gallery does not open, or does not answer
        tally.problems.append((cut, repr(error)))
        return
    tally.problems += [(cut, problem) for problem in problems]
    if all(differences):
        tally.wrong.append((cut, min(differences, key=lambda d: d.lost + d.doubled + d.other)))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_the_recording_is_complete(recording):
    """Everything that happened was seen: the log leads to the very files that the writer left."""
    disk = Disk(str(recording.root), kind=True)
    for record in recording.records:
        disk.run(record)
    replayed = {path: content for path, content in disk.files("all").items() if content is not None}
    assert {path: hashlib.sha256(content).digest() for path, content in replayed.items()} == {
        path: hashlib.sha256(content).digest() for path, content in recording.left.items()
    }
    assert disk.acknowledged == STEPS + 1
    assert disk.syncs > STEPS + 20
    folds = [
        record for record in recording.records if record.op == "S" and record.name == "gallery.db"
    ]  # flushed when the log has been copied into it
    assert len(folds) >= 5
    assert len(recording.expected[-1].content) > 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", [False, True], ids=["strict", "kind"])
def test_a_power_cut_loses_and_doubles_nothing(recording, work, kind):
    every = cuts_of(recording, between=60)
    tally = check(recording, work / "cut", every[:12] + every[12 + kind :: 6], kind=kind)
    assert (tally.lost, tally.doubled, tally.wrong, tally.problems) == (0, 0, [], [])
    assert tally.cuts > 40
    assert tally.states > 100
    print(f"{tally.cuts} cuts, {tally.states} states, {tally.missing} before there was a gallery")


@pytest.mark.long
@pytest.mark.parametrize("kind", [False, True], ids=["strict", "kind"])
def test_a_power_cut_at_every_flush_loses_and_doubles_nothing(recording, work, kind):
    tally = check(recording, work / "cut", cuts_of(recording, between=400), kind=kind)
    print(f"{tally.cuts} cuts, {tally.states} states, {tally.missing} before there was a gallery")
    assert (tally.lost, tally.doubled, tally.wrong, tally.problems) == (0, 0, [], [])
    assert tally.cuts > 400
    assert tally.states > 1_000


def test_a_gallery_in_several_new_folders_survives(work, library):
    """Where a folder's flush alone makes a name certain, each folder above a new one must be flushed."""
    deep = record(work, library, archive="several/new/folders", steps=2)
    tally = check(deep, work / "cut", cuts_of(deep, between=0), kind=False)
    assert (tally.lost, tally.wrong, tally.problems) == (0, [], [])


def test_without_flushes_the_loss_is_seen(recording, work):
    """The same recording on a disk that never flushes: were the gallery not to wait for its disk, this would show."""
    places = [place + 1 for place, record in enumerate(recording.records) if record.name == "acks"]
    tally = check(recording, work / "cut", places[10::12], kind=True, honest=False)
    assert tally.lost > 0
