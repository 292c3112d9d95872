"""Add to a bundle the hashes of the scans that it learnt from, where it was exported before bundles carried them.

    .venv/bin/python benchmarks/add_training_scans.py src/sonoseek/bundles/fast --data $SONOSEEK_DATA

Every case that `training.cases` of the bundle lists is read from its dataset, `DATA/<name>`; phantoms are left out. No
other key of `bundle.json` changes, but the bundle's id does: galleries that it filled are to be built again. A bundle
of `sonoseek train` carries the hashes and does not need this.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

from sonoseek import load_bundle, open_dataset
from sonoseek.core.files import write_atomically
from sonoseek.encoder.seen import as_manifest_part, hash_bytes, training_scans
from sonoseek.encoder.values import MANIFEST_FILE


def scans_of(cases: dict[str, list[str]], root: Path) -> Iterator[tuple[str, str, bytes]]:
    """(dataset, scan_id, perceptual hashes) of every scan that was learnt from."""
    for name, case_ids in cases.items():
        if name == "phantom":
            continue
        dataset = open_dataset(name, root / name)
        for case_id in case_ids:
            for scan in dataset.load(case_id, masks=False).scans:
                yield name, scan.scan_id, hash_bytes(scan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, default=os.environ.get("SONOSEEK_DATA"), help="folder with the datasets")
    given = parser.parse_args()
    file = given.bundle / MANIFEST_FILE
    content = json.loads(file.read_text(encoding="utf-8"))
    content["training_scans"] = as_manifest_part(training_scans(scans_of(content["training"]["cases"], given.data)))
    before = file.read_bytes()
    write_atomically(file, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
    try:
        bundle = load_bundle(given.bundle)
    except Exception:
        file.write_bytes(before)
        raise
    assert bundle.training_scans is not None
    print(f"{bundle.bundle_id}: {len(bundle.training_scans)} distinct scans, {dict(bundle.training_scans.counts)}")


if __name__ == "__main__":
    main()
