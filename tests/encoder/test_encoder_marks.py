"""Bundles that read a reader's mark, through ONNX Runtime: alone, in batches of any size, and in an ensemble."""

import json
import shutil

import numpy as np
import pytest

from sonoseek.core import BundleError, InvalidValueError
from sonoseek.encoder import NO_MARK, PADDING, OnnxEncoder, load_bundle, open_encoder, write_ensemble

SIDE = 128


@pytest.fixture(scope="module")
def reads(marking_bundle):
    return open_encoder(marking_bundle, threads=1)


def canvases(count, *, seed=0):
    made = np.random.default_rng(seed).random((count, 1, SIDE, SIDE), dtype=np.float32)
    made[1::2, :, :20] = PADDING
    return made


def marks(count, *, every=1):
    """A mark in a corner for every `every`-th canvas."""
    found = np.full((count, 4), NO_MARK, np.float32)
    found[::every] = (70, 75, 110, 120)
    return found


def keeps_its_promises(encoder, said):
    bundle = encoder.bundle
    np.testing.assert_allclose(said.evidence.mean((2, 3)), said.embedding, rtol=0, atol=1e-5)
    np.testing.assert_allclose(said.embedding @ bundle.head_weight.T + bundle.head_bias, said.logits, rtol=0, atol=1e-4)
    assert said.spatial_weights.shape[1:] == bundle.fine_grid
    assert said.spatial_weights.min() >= 0


@pytest.mark.parametrize("given", [None, marks(5), marks(5, every=2)])
def test_the_identities_hold_with_and_without_marks(reads, given):
    assert reads.bundle.reads_marks
    assert (reads.bundle.grid, reads.bundle.fine_grid) == ((4, 4), (16, 16))
    keeps_its_promises(reads, reads.encode(canvases(5), marks=given))


@pytest.mark.parametrize("count", [0, 1, 2, 33, 40])  # above 32 there are two runs
def test_a_scan_reads_the_same_alone_and_in_any_batch(reads, count):
    given, at = canvases(count), marks(count, every=3)
    said = reads.encode(given, marks=at)
    assert said.logits.shape == (count, 3)
    for row in range(0, count, 8):
        alone = reads.encode(given[row : row + 1], marks=at[row : row + 1])
        np.testing.assert_allclose(alone.evidence[0], said.evidence[row], rtol=0, atol=1e-5)


def test_a_mark_changes_the_reading_and_minus_ones_are_none(reads):
    given = canvases(4)
    plain, none = reads.encode(given), reads.encode(given, marks=np.full((4, 4), NO_MARK, np.float32))
    np.testing.assert_array_equal(plain.embedding, none.embedding)
    marked = reads.encode(given, marks=marks(4, every=2))
    np.testing.assert_allclose(marked.embedding[1::2], plain.embedding[1::2], atol=1e-6)
    assert (np.abs(marked.embedding - plain.embedding).max(1)[::2] > 1e-4).all()
    corner = np.abs(marked.evidence)[0, :, 2:, 2:].sum() / np.abs(marked.evidence)[0].sum()
    assert corner > np.abs(plain.evidence)[0, :, 2:, 2:].sum() / np.abs(plain.evidence)[0].sum() + 0.15


@pytest.mark.parametrize(
    "given",
    [marks(3).astype(np.float64), marks(2), marks(3)[:, :3], np.full((3, 4), np.nan, np.float32)],
)
def test_marks_of_another_kind_are_refused(reads, given):
    with pytest.raises(InvalidValueError, match=r"finite float32 \(3, 4\)"):
        reads.encode(canvases(3), marks=given)


def test_a_bundle_that_reads_none_says_so(bundle_folder):
    encoder = open_encoder(bundle_folder)
    assert not encoder.bundle.reads_marks
    with pytest.raises(InvalidValueError, match=r"'test' reads none.*Leave the mark out"):
        encoder.encode(np.zeros((1, 1, 32, 32), np.float32), marks=np.zeros((1, 4), np.float32))


@pytest.mark.parametrize("told", [True, False])
def test_a_manifest_that_contradicts_its_model_is_refused(marking_bundle, bundle_folder, tmp_path, told):
    folder = tmp_path / "contradicts"
    shutil.copytree(bundle_folder if told else marking_bundle, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "reads_marks": told}))
    with pytest.raises(BundleError, match="must come from one export"):
        OnnxEncoder(load_bundle(folder))


@pytest.fixture(scope="module")
def both(marking_bundle, tmp_path_factory):
    """An ensemble of a member that reads marks and one that reads none."""
    torch = pytest.importorskip("torch")
    from sonoseek.networks.lesion_pooling import LesionPoolingNetwork
    from sonoseek.networks.tiny import TinyBackbone
    from sonoseek.training.export import BundleMetadata, export_bundle

    folder = tmp_path_factory.mktemp("both")
    marking = load_bundle(marking_bundle)
    metadata = BundleMetadata(
        name="plain",
        version="1",
        classes=marking.classes,
        preprocessing=marking.recipe,
        temperature=2.0,
        abstain_below=0.3,
        conformal={"level": 0.9, "quantile": 0.9},
        operating_points={},
        training={},
        licences={},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = LesionPoolingNetwork(TinyBackbone(), embedding_dim=8).eval()
    plain = export_bundle(network, folder=folder / "plain", metadata=metadata)
    whole = write_ensemble(folder / "both", [marking_bundle, plain], name="both", version="1", norms=[1.0, 2.0])
    return open_encoder(whole, threads=1), open_encoder(plain, threads=1)


def test_an_ensemble_gives_the_mark_to_the_members_that_read_it(both, reads):
    ensemble, plain = both
    assert ensemble.bundle.reads_marks
    given, at = canvases(3), marks(3)
    for mark in (None, at):
        said = ensemble.encode(given, marks=mark)
        keeps_its_promises(ensemble, said)
        np.testing.assert_allclose(said.embedding[:, :16], reads.encode(given, marks=mark).embedding, atol=1e-6)
        np.testing.assert_allclose(said.embedding[:, 16:], plain.encode(given).embedding / 2, atol=1e-6)


def test_an_ensemble_of_which_no_member_reads_marks_refuses_them(make_member, tmp_path):
    members = [make_member(name, seed=seed) for seed, name in enumerate(("one", "other"))]
    ensemble = open_encoder(write_ensemble(tmp_path / "e", members, name="e", version="1", norms=[1.0, 1.0]))
    assert not ensemble.bundle.reads_marks
    with pytest.raises(InvalidValueError, match="reads none"):
        ensemble.encode(np.zeros((1, 1, 32, 32), np.float32), marks=np.zeros((1, 4), np.float32))
