"""Bundles are read strictly: whatever is wrong with one is reported when it is loaded."""

import base64
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from sonoseek.core import BundleError
from sonoseek.encoder import load_bundle, ood_score, open_encoder, predict
from sonoseek.encoder.bundle import BUNDLES, FAST_BUNDLE, SHIPPED, shipped_bundle
from sonoseek.encoder.manifest import decode_manifest


def test_it_reads_what_was_written(bundle_folder):
    bundle = load_bundle(bundle_folder)
    written = json.loads((bundle_folder / "bundle.json").read_text())
    assert bundle.classes == ("normal", "benign", "malignant")
    assert bundle.head_weight.dtype == np.float32
    assert bundle.head_weight.shape == (3, 8)
    assert bundle.head_weight.tolist() == written["head_weight"]
    assert not bundle.head_weight.flags.writeable
    assert bundle.grid == (2, 2)
    assert bundle.recipe.canvas_size == 32
    assert bundle.conformal_quantile == 0.8
    assert bundle.operating_points["sensitivity_95"]["threshold"] == 0.1


def test_its_id_names_it_and_changes_with_its_content(bundle_folder, make_bundle):
    first = load_bundle(bundle_folder).bundle_id
    assert first.startswith("test-")
    assert len(first) == len("test-") + 12
    assert load_bundle(bundle_folder).bundle_id == first
    assert load_bundle(make_bundle(temperature=2.5)).bundle_id != first


def test_the_environment_names_the_default(bundle_folder, monkeypatch):
    monkeypatch.setenv("SONOSEEK_BUNDLE", str(bundle_folder))
    assert load_bundle().name == "test"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 3}, "format 3.*Update sonoseek"),
        ({"format": 0}, "format 0.*Export"),
        ({"model_sha256": "0" * 64}, "sha256"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"abstain_below": 1.5}, "abstain_below"),
        ({"conformal": {}}, "quantile"),
        ({"classes": ["benign", "normal", "malignant"]}, "order"),
        ({"classes": ["normal", "benign", "strange"]}, "order"),
        ({"head_bias": [0.0]}, "head_bias"),
        ({"head_weight": [[0.0] * 9] * 3}, "head_weight"),
        ({"grid": [0, 2]}, "grid"),
        ({"licences": None}, "licences"),
        ({"extra": 1}, "extra"),
        ({"duplicate_threshold": 1.5}, "cosine"),
        ({"preprocessing": {"version": 99}}, "preprocessing"),
        ({"preprocessing": {"version": 1, "canvas": 3}}, "preprocessing"),
    ],
)
def test_a_manifest_that_lies_is_refused(make_bundle, changes, said):
    with pytest.raises(BundleError, match=said):
        load_bundle(make_bundle(**changes))


@pytest.mark.parametrize("name", ["model.onnx", "bundle.json"])
def test_a_missing_file_is_named(bundle_folder, name):
    (bundle_folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(bundle_folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "one"}', b"\xff\xfe", b"null"])
def test_broken_json_is_said(bundle_folder, content):
    (bundle_folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"does not read as a bundle|is no UTF-8"):
        load_bundle(bundle_folder)


def test_a_damaged_model_is_said(bundle_folder, make_bundle):
    model = bytearray((bundle_folder / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 0xFF
    (bundle_folder / "model.onnx").write_bytes(bytes(model))
    with pytest.raises(BundleError, match="sha256"):
        load_bundle(bundle_folder)
    with pytest.raises(BundleError, match="does not open"):  # the same, with a manifest that agrees
        open_encoder(make_bundle(model=b"no model at all"))


@pytest.mark.parametrize(
    ("name", "most", "start", "marks", "networks"),
    [("accurate", 60_000_000, "EfficientNet-B4", True, 1), ("fast", 8_000_000, "SqueezeNet", False, 1)],
)
def test_the_shipped_bundles_are_whole(name, most, start, marks, networks):
    bundle = load_bundle(name)
    assert bundle.classes == ("normal", "benign", "malignant")
    assert bundle.embedding_dim == 256 * networks
    assert bundle.reads_marks is marks
    assert ood_score(bundle, np.ones(bundle.embedding_dim, np.float32)) is not None
    assert bundle.training_scans is not None
    assert set(bundle.operating_points) == {"sensitivity_90", "sensitivity_95", "sensitivity_98", "specificity_90"}
    assert sum(file.stat().st_size for file in bundle.path.rglob("*")) < most
    cards = [*bundle.path.rglob("MODEL_CARD.md")]
    assert len(cards) == (networks + 1 if networks > 1 else 1)
    card = "".join(path.read_text() for path in cards)
    for needed in ("not for diagnosis", "## Data", "## Limits", "## Licences", start):
        assert needed.lower() in card.lower()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_bundles_name_no_machine(name):
    here = (Path.home(), Path(tempfile.gettempdir()), Path(__file__).parents[2])
    traces = [b"/home/", b"site-packages", *(f"{folder}/".encode() for folder in here)]
    for file in (BUNDLES / name).rglob("*.*"):
        content = file.read_bytes()
        assert [trace for trace in traces if trace in content] == [], file.name


def test_the_default_bundle_was_calibrated_in_hospitals_that_it_had_not_seen():
    assert SHIPPED[0] == "accurate"
    assert "hospitals left out" in load_bundle(BUNDLES / "accurate").fitted_on


def test_a_shipped_bundle_is_found_by_its_name_and_by_its_gallery(tmp_path, monkeypatch, bundle_folder):
    monkeypatch.delenv("SONOSEEK_BUNDLE")
    fast = load_bundle("fast")
    assert fast.path == FAST_BUNDLE
    assert load_bundle().path.name == SHIPPED[0]
    assert shipped_bundle(fast.bundle_id) == FAST_BUNDLE
    assert shipped_bundle("another-0123456789ab") is None
    monkeypatch.setenv("SONOSEEK_BUNDLE", str(bundle_folder))
    assert shipped_bundle(fast.bundle_id) is None  # who names one is not overruled
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle_folder, tmp_path / "fast")
    assert load_bundle("fast").bundle_id == load_bundle(bundle_folder).bundle_id  # a bundle in a folder of that name


def test_a_class_bias_is_added_before_the_softmax(make_bundle):
    plain, shifted = load_bundle(make_bundle()), load_bundle(make_bundle(class_bias=[-2.0, 0.0, 0.0]))
    logits = np.array([1.0, 0.5, 0.2], np.float32)
    before, after = predict(plain, logits).probabilities, predict(shifted, logits).probabilities
    ratio = (after["normal"] / after["benign"]) / (before["normal"] / before["benign"])
    assert ratio == pytest.approx(np.exp(-2.0))
    assert after["malignant"] / after["benign"] == pytest.approx(before["malignant"] / before["benign"])


@pytest.mark.parametrize("bias", [[0.0, 1.0], [0.0, 0.0, 30.0]])
def test_a_class_bias_of_another_length_or_beyond_reason_is_refused(make_bundle, bias):
    with pytest.raises(BundleError, match="class_bias"):
        load_bundle(make_bundle(class_bias=bias))


def test_format_1_is_read_by_the_new_names(bundle_folder, make_bundle):
    """A bundle that an older version exported: other keys, the same values."""
    old_names = {
        "preprocessing": "cleaning",
        "duplicate_threshold": "same_scan",
        "grid": "cells",
        "fine_grid": "fine_cells",
        "ood": "novelty",
    }
    part = {
        "mean": base64.b64encode(np.zeros(8, "<f4").tobytes()).decode(),
        "components": base64.b64encode(np.eye(2, 8, dtype="<f4").tobytes()).decode(),
        "variances": [1.0, 0.5],
        "residual_variance": 0.25,
        "threshold": 3.0,
        "level": 0.99,
        "counts": {"training": 9, "validation": 8},
    }
    old_ood = {"mean": "centre", "components": "directions", "residual_variance": "rest", "counts": "scans"}
    training = {"datasets": [], "recipe": {"name": "tiny", "preprocessing": {"canvas_size": 32}}}
    folder = make_bundle(fine_grid=[4, 4], duplicate_threshold=0.97, ood=part, training=training)
    new = load_bundle(folder)
    content = json.loads((folder / "bundle.json").read_text())
    content["training"]["recipe"]["cleaning"] = content["training"]["recipe"].pop("preprocessing")
    content["ood"] = {old_ood.get(key, key): value for key, value in content["ood"].items()}
    content = {old_names.get(key, key): value for key, value in content.items()}
    (folder / "bundle.json").write_text(json.dumps({**content, "format": 1}))
    old = load_bundle(folder)
    assert (old.grid, old.fine_grid, old.duplicate_threshold) == ((2, 2), (4, 4), 0.97)
    assert old.recipe == new.recipe
    assert old.training == new.training
    assert old.ood is not None
    assert new.ood is not None
    assert np.array_equal(old.ood.mean, new.ood.mean)
    assert np.array_equal(old.ood.components, new.ood.components)
    assert old.ood.residual_variance == 0.25
    assert decode_manifest(json.dumps({**content, "format": 1}).encode(), where="x").ood.counts == part["counts"]
    (folder / "bundle.json").write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(BundleError, match=r"cleaning|cells|novelty|same_scan"):
        load_bundle(folder)  # format 2 knows its own names only
