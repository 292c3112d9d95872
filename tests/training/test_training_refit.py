"""A bundle set to another preprocessing: its card, and what is refused."""

from __future__ import annotations

import json

import pytest

from sonoseek import load_bundle
from sonoseek.core import BundleError
from sonoseek.encoder.bundle import MANIFEST_FILE
from sonoseek.training.refit import refit_bundle, refitted_card

OLD = "# name\n\n## Figures of the training\n\nold\n\n## Calibration\n\nold\n\n## Licences\n\n- old\n"
NEW = "# name\n\n## Figures of the training\n\nnew\n\n## Calibration\n\nnew\n"


def test_only_sections_that_the_preprocessing_changes_are_replaced():
    card = refitted_card(OLD, NEW)
    assert card == OLD.replace("training\n\nold", "training\n\nnew").replace("Calibration\n\nold", "Calibration\n\nnew")


def test_a_card_without_such_a_section_is_refused():
    with pytest.raises(BundleError, match="Calibration"):
        refitted_card(OLD.replace("## Calibration", "## Other"), NEW)


@pytest.mark.parametrize("change", [{"fold": 2}, {"calibrated_on": "out-of-fold predictions"}])
def test_a_bundle_that_was_not_calibrated_on_its_validation_part_is_refused(change, tmp_path):
    manifest = json.loads((load_bundle().path / MANIFEST_FILE).read_text())
    manifest["training"].update(change)
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="own validation part"):
        refit_bundle(tmp_path, data_root=tmp_path, cache=tmp_path)
    assert json.loads((tmp_path / MANIFEST_FILE).read_text()) == manifest
