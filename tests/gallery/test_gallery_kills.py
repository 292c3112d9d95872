"""Writers killed at random moments: what was acknowledged is there, and the gallery opens at once."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from workload import BUNDLE_ID, DIMENSION, Difference, Expected, compare

from sonoseek.gallery import create_gallery, open_gallery

WRITERS = """
import os, sys
import workload
from sonoseek.gallery import ENGINES, open_gallery

def write(state):
    os.write(1, b"ready\\n")
    with open_gallery(sys.argv[1], "w") as gallery:
        while True:
            step = state.next_step()
            step.run(gallery)
            os.write(1, b"%d\\n" % state.steps)
            state = state.after(step)

ENGINES.load("sqlite")
state = workload.Expected()
state.next_step()  # makes the pictures, and loads all that a writer needs
for line in sys.stdin:
    while state.steps < int(line):
        state = state.after(state.next_step())
    child = os.fork()
    if child == 0:
        write(state)
    os.write(1, b"child %d\\n" % child)
    _, status = os.waitpid(child, 0)
    os.write(1, b"end %d\\n" % status)
"""
"""Forks a writer for every line it reads: seconds of imports are paid once, not per round."""


@pytest.fixture
def zygote(path) -> Iterator[subprocess.Popen[str]]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    command = [sys.executable, "-c", WRITERS, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "archive"


def start_writer(zygote: subprocess.Popen[str], steps: int) -> int:
    """A writer that goes on after these steps; its process id, once it is about to open the gallery."""
    assert zygote.stdin is not None
    assert zygote.stdout is not None
    zygote.stdin.write(f"{steps}\n")
    zygote.stdin.flush()
    first = {zygote.stdout.readline().strip() for _ in range(2)}
    (child,) = (line for line in first if line.startswith("child "))
    assert first == {child, "ready"}
    return int(child.split()[1])


def read_end(zygote: subprocess.Popen[str]) -> tuple[int, int]:
    """How many steps the writer acknowledged, and how it ended."""
    assert zygote.stdout is not None
    for acknowledged, line in enumerate(zygote.stdout):
        if line.startswith("end "):
            return acknowledged, os.waitstatus_to_exitcode(int(line.split()[1]))
    raise AssertionError("the process that forks the writers ended")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=pytest.mark.long)])
def test_writers_killed_at_random_moments_lose_and_double_nothing(path, zygote, rounds):
    chance = random.Random(rounds)
    create_gallery(path, bundle_id=BUNDLE_ID, dimension=DIMENSION).close()
    state = Expected()
    acknowledged = kept_unacknowledged = in_opening = 0
    slowest = 0.0
    lost = doubled = most = 0
    for number in range(rounds):
        child = start_writer(zygote, state.steps)
        # Every tenth is hit while it opens the gallery and reads the log that the one before left.
        time.sleep(chance.uniform(0, 0.003) if number % 10 == 9 else chance.uniform(0, 0.2))
        os.kill(child, signal.SIGKILL)
        steps, ended = read_end(zygote)
        assert ended == -signal.SIGKILL
        acknowledged += steps
        in_opening += steps == 0
        for _ in range(steps):
            state = state.after(state.next_step())
        begin = time.perf_counter()
        gallery = open_gallery(path, "w" if number % 2 else "r")
        count = gallery.count()
        slowest = max(slowest, time.perf_counter() - begin)
        with gallery:
            entries = list(gallery)
            assert len(entries) == count
            most = max(most, count)  # some steps leave none: the last may be one of them
            difference = compare(entries, state)
            if difference:
                following = state.after(state.next_step())
                if not compare(entries, following):
                    state, difference = following, Difference()
                    kept_unacknowledged += 1
            assert gallery.verify() == ()
        lost, doubled = lost + difference.lost, doubled + difference.doubled
        assert not difference
    print(
        f"{rounds} kills, {acknowledged} steps acknowledged, {kept_unacknowledged} more kept whole, "
        f"{in_opening} before the first; opened in {slowest * 1_000:.0f} ms at most"
    )
    assert (lost, doubled) == (0, 0)
    assert slowest < 1
    assert acknowledged > 2 * rounds
    assert most > 0
