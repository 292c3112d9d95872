"""Fit a bundle's calibration anew after a change of the preprocessing; the network stays as it is.

    .venv/bin/python benchmarks/refit_bundle.py --data $SONOSEEK_DATA [--bundle src/sonoseek/bundles/fast]

`bundle.json` and `MODEL_CARD.md` are changed in place. Prepared scans lie in `--cache` (a temporary folder if none).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from sonoseek import load_bundle
from sonoseek.training.refit import refit_bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the datasets of the bundle's recipe")
    parser.add_argument("--bundle", type=Path, default=Path("src/sonoseek/bundles/fast"))
    parser.add_argument("--cache", type=Path, help="holds scans: keep it out of any repository")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        refit_bundle(given.bundle, data_root=given.data, cache=given.cache or Path(folder))
    bundle = load_bundle(given.bundle)
    print(f"{bundle.bundle_id}: temperature {bundle.temperature:.3f}, no label below {bundle.abstain_below:.3f}")


if __name__ == "__main__":
    main()
