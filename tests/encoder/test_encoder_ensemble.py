"""Several bundles behind one interface: every promise of a single bundle holds for them together."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from sonoseek.core import BundleError, InvalidValueError, Scan
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import (
    EnsembleEncoder,
    OnnxEncoder,
    encode_scan,
    is_bundle,
    load_bundle,
    open_encoder,
    predict,
    to_input,
    typical_norm,
    write_ensemble,
)
from sonoseek.encoder.canvas_input import reduce_input
from sonoseek.encoder.ensemble_encoder import by_area
from sonoseek.encoder.manifest import POINT
from sonoseek.explain import class_evidence
from sonoseek.preprocessing import PreprocessingRecipe, preprocess

NORMS = (3.0, 0.25)
WEIGHTS = (3.0, 1.0)


@pytest.fixture
def members(make_member):
    """Two that differ in all that members may differ in."""
    return [
        make_member("first", seed=1, temperature=1.5, training={"cases": {"busi": ["a", "b"]}}),
        make_member(
            "second",
            seed=2,
            embedding_dim=5,
            maps=4,
            temperature=0.5,
            abstain_below=0.7,
            conformal={"level": 0.9, "quantile": 0.6},
            operating_points={
                "sensitivity_95": {"threshold": 0.3, "sensitivity": 0.97, "specificity": 0.5},
                "own": {"threshold": 1, "sensitivity": 0.1, "specificity": 0.9},
            },
            training={"cases": {"busi": ["b", "c"], "busbra": ["x"]}},
            licences={"bundle": "MIT", "data": "CC0"},
        ),
    ]


@pytest.fixture
def write(tmp_path, members):
    """Call it with changes to the call; get the folder."""

    def call(given=None, **changes):
        asked = {"name": "both", "version": "1", "norms": NORMS, "weights": WEIGHTS, **changes}
        return write_ensemble(tmp_path / "ensemble", members if given is None else given, **asked)

    return call


def edit(folder, **changes):
    """Change `ensemble.json`; None drops a key."""
    file = folder / "ensemble.json"
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def canvases(count, *, seed=0):
    made = np.random.default_rng(seed).random((count, 1, 32, 32), dtype=np.float32)
    made[:, :, :8] = -1
    return made


def test_what_it_says_is_the_members_joined(write, members):
    folder = write()
    encoder, given = open_encoder(folder), canvases(3)
    said = encoder.encode(given)
    alone = [open_encoder(member).encode(given) for member in members]
    assert isinstance(encoder, EnsembleEncoder)
    joined = np.concatenate([alone[0].embedding / 3.0, alone[1].embedding / 0.25], axis=1)
    np.testing.assert_allclose(said.embedding, joined, rtol=1e-6)
    mean = 0.75 * alone[0].logits / 1.5 + 0.25 * alone[1].logits / 0.5
    np.testing.assert_allclose(said.logits, mean, rtol=1e-5, atol=1e-5)
    assert {array.dtype for array in (said.logits, said.embedding, said.evidence)} == {np.dtype(np.float32)}


def test_the_promises_of_one_bundle_hold(write):
    encoder = open_encoder(write())
    bundle, said = encoder.bundle, encoder.encode(canvases(3))
    assert (bundle.embedding_dim, bundle.grid) == (13, (4, 4))
    assert said.evidence.shape == (3, 13, 4, 4)
    np.testing.assert_allclose(said.evidence.mean((2, 3)), said.embedding, atol=1e-5)
    np.testing.assert_allclose(said.embedding @ bundle.head_weight.T + bundle.head_bias, said.logits, atol=1e-5)
    blank = encoder.encode(np.full((1, 1, 32, 32), -1, np.float32))
    assert not blank.evidence.any()
    assert encoder.encode(canvases(0)).evidence.shape == (0, 13, 4, 4)
    assert sum(predict(bundle, said.logits[0]).probabilities.values()) == pytest.approx(1)


def test_a_class_heatmap_stays_exact(write):
    encoder = open_encoder(write())
    pixels = np.random.default_rng(0).integers(1, 256, (60, 90), dtype=np.uint8)
    preprocessed = preprocess(Scan(pixels=pixels), encoder.bundle.recipe)
    said = encoder.encode(to_input(preprocessed)[np.newaxis])
    for index in range(3):
        told = class_evidence(
            said.evidence[0],
            weight=encoder.bundle.head_weight[index],
            bias=float(encoder.bundle.head_bias[index]),
            mapping=preprocessed.mapping,
            target="any",
        )
        assert told.heatmap.sum(dtype=np.float64) + told.bias == pytest.approx(float(said.logits[0, index]), abs=1e-4)


def test_coarser_maps_are_distributed_over_the_finest(write, make_member):
    given = [make_member("two", seed=1, maps=2), make_member("four", seed=2, maps=4), make_member("one", maps=1)]
    encoder = open_encoder(write(given, norms=[1, 1, 1], weights=None))
    assert encoder.bundle.grid == (4, 4)
    said = encoder.encode(canvases(2))
    np.testing.assert_allclose(said.evidence.mean((2, 3)), said.embedding, atol=1e-5)


def test_a_map_by_area_keeps_its_mean_and_its_places():
    values = np.random.default_rng(0).normal(size=(2, 3, 10, 10)).astype(np.float32)
    finer = by_area(values, (14, 14))
    np.testing.assert_allclose(finer.mean((2, 3)), values.mean((2, 3)), atol=1e-6)
    np.testing.assert_allclose(finer[..., 0, 0], values[..., 0, 0], atol=1e-6)
    np.testing.assert_allclose(by_area(values, (20, 20)), values.repeat(2, axis=2).repeat(2, axis=3), atol=1e-6)
    np.testing.assert_allclose(by_area(by_area(values, (20, 20)), (10, 10)), values, atol=1e-6)


def test_a_member_with_a_smaller_canvas_reads_the_scan_as_it_would_alone():
    archive = PhantomDataset(count=1, seed=5)
    (scan,) = archive.load(archive.records()[0].case_id, masks=False).scans
    fast = open_encoder("fast")
    _, alone = encode_scan(fast, scan)
    canvas = to_input(preprocess(scan, replace(fast.bundle.recipe, canvas_size=448)))
    reduced = reduce_input(canvas[np.newaxis], fast.bundle.recipe.canvas_size)
    padding = canvas[0] < 0
    assert reduced.shape == (1, 1, 160, 160)
    assert (reduced == -1).mean() == pytest.approx(padding.mean(), abs=0.01)
    again = fast.encode(reduced)
    one, other = again.embedding[0], alone.embedding[0]
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert cosine > 0.99
    np.testing.assert_allclose(again.logits, alone.logits, atol=0.5)


def test_what_is_not_given_is_the_mean_of_the_members(write):
    bundle = load_bundle(write())
    assert bundle.temperature == 1.0
    assert bundle.abstain_below == pytest.approx(0.6)
    assert bundle.conformal_quantile == pytest.approx(0.7)
    assert {name: dict(point) for name, point in bundle.operating_points.items()} == {
        "sensitivity_95": {name: pytest.approx(v) for name, v in zip(POINT, (0.2, 0.96, 0.55), strict=True)}
    }
    assert bundle.training["calibrated_on"] == "mean of the members' calibrations"


def test_what_is_given_is_kept(write):
    given = {"own": {"threshold": 0.4, "sensitivity": 0.9, "specificity": 0.8}}
    bundle = load_bundle(
        write(temperature=0.8, abstain_below=0.1, conformal={"quantile": 0.2, "level": 0.9}, operating_points=given)
    )
    assert (bundle.temperature, bundle.abstain_below, bundle.conformal_quantile) == (0.8, 0.1, 0.2)
    assert bundle.operating_points["own"]["threshold"] == 0.4
    assert bundle.training["calibrated_on"] == "given by its maker"


def test_it_has_learnt_from_all_that_any_member_has(write):
    folder = write()
    assert load_bundle(folder).training["cases"] == {"busi": ["a", "b", "c"], "busbra": ["x"]}
    edit(folder, training={"cases": {"busi": []}})  # its own file cannot hide them
    assert load_bundle(folder).training["cases"] == {"busi": ["a", "b", "c"], "busbra": ["x"]}


def test_where_one_member_does_not_say_what_it_learnt_the_ensemble_does_not(write, members, make_member):
    folder = write([members[0], make_member("silent", seed=5, training={})])
    assert "cases" not in load_bundle(folder).training


def test_its_id_changes_with_its_members_and_its_own_words(write, members, make_member, tmp_path):
    folder = write()
    first = load_bundle(folder).bundle_id
    assert first.startswith("both-")
    assert load_bundle(folder).bundle_id == first
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert load_bundle(tmp_path / "elsewhere").bundle_id == first
    assert load_bundle(edit(folder, temperature=1.1)).bundle_id != first
    shutil.rmtree(folder)
    other = load_bundle(write([members[0], make_member("third", seed=2, embedding_dim=5, maps=4)]))
    assert other.bundle_id != first


def test_it_has_no_model_file_and_members_have(write):
    bundle = load_bundle(write())
    with pytest.raises(BundleError, match=r"ensemble of 2 bundles.*open_encoder"):
        _ = bundle.model_path
    assert all(member.bundle.model_path.is_file() for member in bundle.members)


def test_the_card_and_the_licences_name_the_members(write):
    folder = write()
    card = (folder / "MODEL_CARD.md").read_text()
    for needed in ("not for diagnosis", "member-2", "weight 3", "## Licences", "Apache-2.0; MIT", "data: CC0"):
        assert needed.lower() in card.lower()


def test_a_bundle_a_folder_and_text_open_it(write):
    folder = write()
    assert is_bundle(folder)
    assert not is_bundle(folder.parent)
    for given in (load_bundle(folder), folder, str(folder)):
        assert open_encoder(given, threads=1).bundle.bundle_id == load_bundle(folder).bundle_id
    assert isinstance(open_encoder(folder / "member-1"), OnnxEncoder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "format 2.*Update"),
        ({"format": 0}, "format 0.*Write the ensemble again"),
        ({"extra": 1}, "extra"),
        ({"licences": None}, "licences"),
        ({"temperature": 0}, "temperature"),
        ({"abstain_below": 2}, "abstain_below"),
        ({"conformal": {}}, "quantile"),
        ({"members": []}, "0 members.*at least 2"),
    ],
)
def test_a_file_that_lies_is_refused(write, changes, said):
    with pytest.raises(BundleError, match=said):
        load_bundle(edit(write(), **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folder": "../member-1"}, "within"),
        ({"folder": "/tmp"}, "within"),  # noqa: S108
        ({"folder": ""}, "within"),
        ({"folder": "c:\\bundle"}, "within"),
        ({"folder": "member-2"}, "listed twice"),
        ({"folder": "absent"}, "model.onnx"),
        ({"bundle_id": "first-000000000000"}, "first-000000000000.*Copy the member again"),
        ({"norm": 0}, "norm"),
        ({"norm": -1}, "norm"),
        ({"weight": -1}, "weight"),
        ({"shout": 1}, "shout"),
    ],
)
def test_a_member_that_cannot_be_is_refused(write, changes, said):
    folder = write()
    entries = json.loads((folder / "ensemble.json").read_text())["members"]
    with pytest.raises(BundleError, match=said):
        load_bundle(edit(folder, members=[{**entries[0], **changes}, *entries[1:]]))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"format": "one"}'])
def test_broken_json_is_said(write, content):
    folder = write()
    (folder / "ensemble.json").write_bytes(content)
    with pytest.raises(BundleError, match="does not read as an ensemble"):
        load_bundle(folder)


def test_a_damaged_member_and_two_kinds_in_one_folder_are_said(write):
    folder = write()
    shutil.copy(folder / "member-1" / "bundle.json", folder / "bundle.json")
    with pytest.raises(BundleError, match="ensemble or one bundle"):
        load_bundle(folder)
    (folder / "bundle.json").unlink()
    model = folder / "member-2" / "model.onnx"
    model.write_bytes(model.read_bytes() + b"x")
    with pytest.raises(BundleError, match="sha256"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["benign", "malignant"], "head_weight": [[0.0] * 8] * 2, "head_bias": [0.0] * 2}, "classes"),
        ({"preprocessing": replace(PreprocessingRecipe(canvas_size=32), marks=False).to_dict()}, "preprocessing"),
        ({"conformal": {"level": 0.8, "quantile": 0.5}}, "levels"),
    ],
)
def test_members_that_do_not_belong_together_are_refused(write, members, make_member, tmp_path, changes, said):
    with pytest.raises(BundleError, match=said):
        write([members[0], make_member("odd", seed=3, **changes)])
    assert not is_bundle(tmp_path / "ensemble")


def test_members_are_single_bundles_at_least_two_and_different(write, members, tmp_path):
    folder = write()
    for given, said in (([folder, members[0]], "ensemble itself"), (members[:1], "at least 2"), ([], "at least 2")):
        with pytest.raises(BundleError, match=said):
            write_ensemble(tmp_path / "other", given, name="x", version="1", norms=[1.0] * len(given))
    with pytest.raises(BundleError, match="listed twice"):
        write_ensemble(tmp_path / "other", members[:1] * 2, name="x", version="1", norms=[1.0] * 2)
    assert not (tmp_path / "other").exists()


def test_nothing_is_written_over(write, members):
    folder = write()
    with pytest.raises(InvalidValueError, match="not empty"):
        write()
    with pytest.raises(InvalidValueError, match="1 norms for 2"):
        write_ensemble(folder / "new", members, name="x", version="1", norms=[1.0])


def test_the_typical_norm_makes_members_weigh_alike(members):
    rng = np.random.default_rng(0)
    scans = [Scan(pixels=rng.integers(1, 256, (40, 60), dtype=np.uint8)) for _ in range(5)]
    encoder = open_encoder(members[0])
    norm = typical_norm(encoder, scans)
    assert norm > 0
    assert typical_norm(encoder, scans[:1]) != norm
    with pytest.raises(InvalidValueError, match="0 scans"):
        typical_norm(encoder, [])
    with pytest.raises(InvalidValueError, match=r"typical norm 0\.0"):
        typical_norm(encoder, [Scan(pixels=np.zeros((40, 60), np.uint8))])
