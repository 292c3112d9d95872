"""Read every file of a list of odd files, and count per kind what came out right, refused or wrong.

    python benchmarks/reading_cases.py FOLDER [--markdown docs/results/reading.md] [--verbose]

Further tables: small archives of FOLDER (`archive_cases.py`); files of each format with 20 flipped bits in their pixel
data, made of the phantom; time, memory and log of the tests' corpus of damaged, lying and harmful files, and of known
attacks (tests/io/fuzz_corpus.py, fuzz_attacks.py).

FOLDER holds `reading.csv`: file, frame, kind, should, truth. `truth` is an .npy of the grey picture, 0 … 255. `should`
says in words what is right; where it names a refusal, a typed error is right too. A kind with "spacing" in its name is
also compared by `spacing_mm`: `should` begins with "None" or with "ROW x COLUMN mm".
"""

from __future__ import annotations

import argparse
import csv
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

import sonoseek
from sonoseek.core import SonoseekError
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.io import read_scan

sys.path.extend(str(Path(__file__).parents[1] / part) for part in (".", "tests/io", "tests/io/dicom"))
import dicom_files  # the tests' own builders
from fuzz_attacks import ATTACKS
from fuzz_corpus import corpus
from fuzz_measure import TYPED, Outcome, measured

from benchmarks.archive_cases import scored

DAMAGED, FLIPS = 100, 20
DAMAGE = f"""## Damaged inside

{DAMAGED} files of each format, made of a phantom, with {FLIPS} flipped bits in the pixel data.
[What is checked](../reference/dicom.md#what-is-checked) says why some formats cannot know."""
ARCHIVES = """## Archives

Small archives as people have them: tables that a spreadsheet saved, names of another system, folders of one's own.
Right is the number of cases and the words that the list asks for."""
FUZZ = """## Damaged, lying and harmful files

Made of a phantom by a fixed seed. A process of its own counts the frames of each (`frame_count`) and reads the first
and the last (`read_scan`). Allowed are 2 s of CPU, 512 MB and 10 kB of log for a file."""
OUTCOMES = ("right", "refused, as it may be", "refused, though sound", "wrong")
CLOSE = 2.0
"""Grey levels of 255 that 99.9 % of the pixels may differ by: decoders of JPEG round differently."""
_SPACING = re.compile(r"^(?P<row>[\d.]+) x (?P<column>[\d.]+) mm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--markdown", type=Path, help="write the table there, too")
    parser.add_argument("--verbose", action="store_true", help="a line per file")
    arguments = parser.parse_args()
    with (arguments.folder / "reading.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    kinds: dict[str, Counter[str]] = {}
    for row in rows:
        outcome, detail = tried(arguments.folder, row)
        kinds.setdefault(row["kind"], Counter())[outcome] += 1
        if arguments.verbose or outcome in OUTCOMES[2:]:
            print(f"{outcome:22} {row['file']}#{row['frame']}: {detail}")
    archives: dict[str, Counter[str]] = {}
    for name, kind, seen in scored(arguments.folder):
        outcome = seen.partition(":")[0]
        archives.setdefault(kind, Counter())[outcome] += 1
        if arguments.verbose or outcome in OUTCOMES[2:]:
            print(f"{name}: {seen}")
    with tempfile.TemporaryDirectory() as scratch:
        parts = [
            markdown(kinds),
            ARCHIVES,
            markdown(archives),
            DAMAGE,
            damage(Path(scratch)),
            FUZZ,
            *fuzz(Path(scratch)),
        ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if arguments.markdown:
        head = arguments.markdown.read_text(encoding="utf-8").partition("| kind |")[0]
        arguments.markdown.write_text(f"{head}{text}", encoding="utf-8")


def tried(folder: Path, row: dict[str, str]) -> tuple[str, str]:
    """(outcome, what was seen) of one file."""
    refusal_allowed = "refusal" in row["should"]
    start = time.perf_counter()
    try:
        scan = read_scan(folder / row["file"], frame=int(row["frame"]))
    except SonoseekError as error:
        return OUTCOMES[1] if refusal_allowed else OUTCOMES[2], f"{type(error).__name__}: {error}"
    except Exception as error:  # a traceback is always wrong
        return "wrong", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    if "spacing" in row["kind"] and scan.spacing_mm != (wanted := spacing(row["should"])):
        return "wrong", f"spacing {scan.spacing_mm}, not {wanted}"
    if row["should"].startswith("a refusal") and "or the whole" not in row["should"]:
        return "wrong", "read, though it must be refused"
    truth = np.load(folder / row["truth"]).astype(np.float32)
    if truth.shape != scan.shape:
        return "wrong", f"shape {scan.shape}, not {truth.shape}"
    distance = np.abs(scan.pixels.astype(np.float32) - truth)
    if np.isnan(distance).any() or np.quantile(distance, 0.999) > CLOSE:
        return "wrong", f"mean distance {distance.mean():.2f}, largest {distance.max():.1f} of 255"
    return "right", f"largest distance {distance.max():.1f}, {seconds:.3f} s"


def damage(folder: Path) -> str:
    """A row per format: how many of `DAMAGED` files with flipped bits were refused."""
    lines = ["| format | refused | read, pixels unchanged | read, pixels changed |", "|---|--:|--:|--:|"]
    for name, (path, sound) in damageable(folder).items():
        data, counts = path.read_bytes(), Counter[str]()
        right = read_scan(path).pixels
        start = data.index(sound[:64])
        for seed in range(DAMAGED):
            chance, changed = random.Random(seed), bytearray(data)  # noqa: S311  # no secret
            for _ in range(FLIPS):
                changed[start + chance.randrange(len(sound) // 8, len(sound) - 8)] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
            try:
                counts["same" if np.array_equal(read_scan(path).pixels, right) else "changed"] += 1
            except SonoseekError:
                counts["refused"] += 1
        lines.append(f"| {name} | {counts['refused']} | {counts['same']} | {counts['changed']} |")
    return "\n".join(lines)


def fuzz(scratch: Path) -> tuple[str, str]:
    """A row per kind of harm, and one per known attack."""
    cases = corpus()
    outcomes = read_apart({f"{number}.bin": case.data for number, case in enumerate(cases)}, scratch)
    points = "| CPU s, p50 / p95 / most | MB, p50 / p95 / most |"
    lines = [f"| harm | files | read | refused | beyond the limits {points}", "|---|--:|--:|--:|--:|--:|--:|"]
    harms = [case.name.partition("/")[0] for case in cases]
    for harm in [*dict.fromkeys(harms), "**all**"]:
        chosen = [each for name, each in zip(harms, outcomes, strict=True) if harm in (name, "**all**")]
        read = sum(each.outcome == "read" for each in chosen)
        refused = sum(each.outcome in TYPED for each in chosen)
        faults = sum(bool(each.faults()) for each in chosen)
        spent = [percentiles([getattr(each, name) for each in chosen]) for name in ("cpu_s", "memory_mb")]
        lines.append(f"| {harm} | {len(chosen)} | {read} | {refused} | {faults} | {' | '.join(spent)} |")
    attacks = ["| attack | KB | outcome | CPU s | MB | log, kB | within limits |", "|---|--:|---|--:|--:|--:|---|"]
    for name, make in ATTACKS.items():
        data = make()
        (each,) = read_apart({name: data}, scratch)
        took = f"{each.cpu_s:.1f} | {each.memory_mb:.0f} | {each.printed / 1000:.0f}"
        within = "no" if each.faults() else "yes"
        attacks.append(f"| {name} | {len(data) >> 10:,} | {each.outcome} | {took} | {within} |")
    return "\n".join(lines), "\n".join(attacks)


def read_apart(files: dict[str, bytes], scratch: Path) -> list[Outcome]:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        places = Path(folder, "files"), Path(folder, "temporary")
        for place in places:
            place.mkdir()
        sound = dicom_files.us_dataset(dicom_files.speckle().astype(np.uint8))
        dicom_files.save(sound, places[0] / "sound.dcm")
        for name, data in files.items():
            (places[0] / name).write_bytes(data)
        return measured([places[0] / name for name in files], scratch=places[1])


def percentiles(values: list[float]) -> str:
    p50, p95 = np.percentile(values, [50, 95])
    return (
        f"{p50:.2f} / {p95:.2f} / {max(values):.2f}"
        if max(values) < 10
        else f"{p50:.0f} / {p95:.0f} / {max(values):.0f}"
    )


def damageable(folder: Path) -> dict[str, tuple[Path, bytes]]:
    """Format → a file, and the pixel data in it."""
    from pydicom import dcmread
    from pydicom.encaps import generate_frames

    phantom = PhantomDataset(count=1)
    scan = phantom.load(phantom.records()[0].case_id).scans[0].pixels
    made: dict[str, tuple[Path, bytes]] = {}
    for name, options in {
        "PNG": {"format": "PNG"},
        "JPEG baseline": {"format": "JPEG", "quality": 90},
        "JPEG progressive": {"format": "JPEG", "quality": 90, "progressive": True},
        "TIFF deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
        "TIFF LZW": {"format": "TIFF", "compression": "tiff_lzw"},
        "TIFF uncompressed": {"format": "TIFF"},
        "GIF": {"format": "GIF"},
    }.items():
        path = folder / f"{name}.bin"
        Image.fromarray(scan).save(path, **options)
        data = path.read_bytes()
        first = {"P": data.find(b"IDAT") + 4, "J": data.rfind(b"\xff\xda") + 14}.get(name[0], len(data) // 8)
        if name == "JPEG progressive":
            first = data.find(b"\xff\xda") + 14
        made[name] = path, data[first : len(data) * 3 // 4 if name[0] in "TG" else len(data) - 16]
    plain = dicom_files.save(dicom_files.us_dataset(scan), folder / "plain.dcm")
    made["DICOM native"] = plain, scan.tobytes()
    for name, syntax in {
        "DICOM JPEG lossless": "JPEGLosslessProcess14_1",
        "DICOM JPEG-LS": "JPEGLSLossless",
        "DICOM JPEG 2000": "JPEG2000Lossless",
        "DICOM RLE": "RLELossless",
    }.items():
        path = dicom_files.transcoded(plain, folder / f"{syntax}.dcm", syntax)
        made[name] = path, next(generate_frames(dcmread(path).PixelData, number_of_frames=1))
    return made


def spacing(should: str) -> tuple[float, float] | None:
    match = _SPACING.match(should)
    return (float(match["row"]), float(match["column"])) if match else None


def markdown(kinds: dict[str, Counter[str]]) -> str:
    lines = [f"| kind | tried | {' | '.join(OUTCOMES)} |", "|---|--:|" + "--:|" * len(OUTCOMES)]
    total: Counter[str] = sum(kinds.values(), Counter())
    for kind, counts in [*sorted(kinds.items()), (f"**all** (sonoseek {sonoseek.__version__})", total)]:
        lines.append(f"| {kind} | {counts.total()} | {' | '.join(str(counts[name]) for name in OUTCOMES)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
