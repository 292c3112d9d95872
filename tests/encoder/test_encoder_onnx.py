"""The network through ONNX Runtime."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from sonoseek.core import BundleError, InvalidValueError, Scan
from sonoseek.encoder import PADDING, OnnxEncoder, encode_scan, load_bundle, open_encoder, to_input
from sonoseek.encoder.bundle import FAST_BUNDLE
from sonoseek.encoder.onnx_encoder import CHUNK
from sonoseek.preprocessing import PreprocessingRecipe, preprocess


@pytest.fixture(scope="module")
def shipped() -> OnnxEncoder:
    return open_encoder(FAST_BUNDLE, threads=1)


def canvases(count, size, *, seed=0):
    rng = np.random.default_rng(seed)
    made = rng.random((count, 1, size, size), dtype=np.float32)
    for canvas in made:
        edge = int(rng.integers(0, size // 3))
        canvas[:, :edge] = PADDING
        canvas[:, size - edge :] = PADDING
    return made


def test_the_identities_hold_through_onnx(shipped):
    bundle = shipped.bundle
    given = canvases(3, bundle.recipe.canvas_size)
    said = shipped.encode(given)
    assert said.logits.shape == (3, 3)
    assert said.evidence.shape == (3, bundle.embedding_dim, *bundle.grid)
    assert said.evidence.dtype == said.embedding.dtype == said.logits.dtype == np.float32
    np.testing.assert_allclose(said.evidence.mean((2, 3)), said.embedding, rtol=0, atol=1e-4)
    np.testing.assert_allclose(said.embedding @ bundle.head_weight.T + bundle.head_bias, said.logits, rtol=0, atol=1e-4)
    heat = np.einsum("cd,ndhw->nchw", bundle.head_weight, said.evidence) / np.prod(bundle.grid)
    np.testing.assert_allclose(heat.sum((2, 3)) + bundle.head_bias, said.logits, rtol=0, atol=1e-4)


def test_padding_carries_no_evidence(shipped):
    side = shipped.bundle.recipe.canvas_size
    given = np.random.default_rng(0).random((1, 1, side, side), dtype=np.float32)
    given[:, :, :64] = PADDING
    evidence = shipped.encode(given).evidence
    edge = 64 * evidence.shape[2] // side  # the first row of cells that lies wholly in the scan
    assert np.all(evidence[:, :, : edge - 1] == 0)
    assert np.all(np.abs(evidence[:, :, edge:]).max(1) > 0)
    blank = shipped.encode(np.full((1, 1, side, side), PADDING, np.float32))
    assert np.all(blank.evidence == 0)
    np.testing.assert_allclose(blank.logits[0], shipped.bundle.head_bias, atol=1e-6)


def test_a_scan_reads_the_same_alone_and_in_any_batch(shipped):
    given = canvases(35, shipped.bundle.recipe.canvas_size)  # more than one run
    together = shipped.encode(given)
    alone = shipped.encode(given[33:34])
    np.testing.assert_allclose(together.embedding[33], alone.embedding[0], rtol=1e-4, atol=1e-4)
    assert len(together.logits) == 35
    empty = shipped.encode(given[:0])
    assert empty.embedding.shape == (0, 256)
    assert empty.evidence.shape == (0, 256, *shipped.bundle.grid)


def test_several_threads_may_ask_at_once(shipped):
    given = [canvases(1, shipped.bundle.recipe.canvas_size, seed=seed) for seed in range(8)]
    alone = [shipped.encode(canvas).embedding for canvas in given]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(lambda c: shipped.encode(c).embedding, given), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((1, 1, 32, 32), np.float64),
        np.zeros((1, 1, 32, 32), np.uint8),
        np.zeros((1, 32, 32), np.float32),
        np.zeros((1, 3, 32, 32), np.float32),
        np.zeros((1, 1, 32, 33), np.float32),
        np.full((1, 1, 32, 32), 255, np.float32),
        np.full((1, 1, 32, 32), -2, np.float32),
        np.full((1, 1, 32, 32), np.nan, np.float32),
    ],
)
def test_what_is_no_canvas_is_refused(bundle_folder, wrong):
    with pytest.raises(InvalidValueError, match="canvases"):
        open_encoder(bundle_folder, threads=1).encode(wrong)


def test_a_model_that_is_not_its_manifests_is_refused(make_bundle, other_outputs):
    with pytest.raises(BundleError, match="one export"):
        open_encoder(make_bundle(grid=[3, 3]))
    with pytest.raises(BundleError, match="one export"):
        open_encoder(make_bundle(model=other_outputs))


def test_an_encoder_opens_from_a_bundle_a_folder_and_text(bundle_folder):
    bundle = load_bundle(bundle_folder)
    for given in (bundle, bundle_folder, str(bundle_folder)):
        assert open_encoder(given).bundle.bundle_id == bundle.bundle_id


@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (224, 224)])
def test_input_is_grey_inside_and_padding_outside(shape):
    pixels = np.random.default_rng(0).integers(1, 256, shape, dtype=np.uint8)
    preprocessed = preprocess(Scan(pixels=pixels), PreprocessingRecipe(borders=False, marks=False, contrast="none"))
    made = to_input(preprocessed)
    assert made.shape == (1, 224, 224)
    assert made.dtype == np.float32
    box = preprocessed.content
    inside = np.zeros((224, 224), bool)
    inside[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = True
    assert np.all(made[0][~inside] == PADDING)
    np.testing.assert_allclose(made[0][inside], preprocessed.canvas[inside] / 255, atol=1e-6)


def test_the_clinic_never_imports_torch(bundle_folder):
    code = (
        "import sys, numpy as np; from sonoseek.encoder import open_encoder, predict;"
        f"e = open_encoder({str(bundle_folder)!r}); r = e.encode(np.zeros((1, 1, 32, 32), np.float32));"
        "predict(e.bundle, r.logits[0]); assert not {'torch', 'lightning', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.data
def test_the_identities_hold_on_real_scans(shipped, real_data):
    from sonoseek.datasets import open_dataset

    dataset = open_dataset("busi", real_data / "busi")
    bundle = shipped.bundle
    given = [dataset.load(record.case_id).scans[0] for record in dataset.records()[::60]]
    said = shipped.encode(np.stack([to_input(preprocess(scan, bundle.recipe)) for scan in given]))
    heat = np.einsum("cd,ndhw->nchw", bundle.head_weight, said.evidence) / np.prod(bundle.grid)
    np.testing.assert_allclose(heat.sum((2, 3)) + bundle.head_bias, said.logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(said.evidence.mean((2, 3)), said.embedding, rtol=0, atol=1e-4)


def test_the_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """Without the switch its import leaves a file in the temporary folder that names the session."""
    code = "import os, sonoseek.encoder as e; e.open_encoder(threads=1); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment["TMPDIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
    assert list(tmp_path.iterdir()) == []


def drawn(seed: int) -> Scan:
    return Scan(pixels=np.random.default_rng(seed).integers(0, 256, (90, 120), dtype=np.uint8))


def test_transform_gives_the_embeddings_of_scans_and_of_files(shipped, tmp_path):
    scans = [drawn(seed) for seed in range(3)]
    file = tmp_path / "scan.png"
    cv2.imwrite(str(file), scans[1].pixels)
    embeddings = shipped.transform([scans[0], file, str(file), scans[2]])
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (4, shipped.bundle.embedding_dim)
    assert np.array_equal(embeddings[1], embeddings[2])
    for row, scan in zip(embeddings[[0, 1, 3]], scans, strict=True):
        preprocessed, encoding = encode_scan(shipped, scan)
        assert preprocessed.canvas.shape == (shipped.bundle.recipe.canvas_size,) * 2
        np.testing.assert_allclose(row, encoding.embedding[0], atol=1e-5)
    assert shipped.transform([]).shape == (0, shipped.bundle.embedding_dim)


def test_transform_runs_more_scans_than_a_batch_holds(bundle_folder):
    encoder = open_encoder(bundle_folder, threads=1)
    scans = [drawn(seed % 3) for seed in range(CHUNK + 2)]
    embeddings = encoder.transform(scans)
    assert embeddings.shape == (CHUNK + 2, 8)
    np.testing.assert_allclose(embeddings[CHUNK:], embeddings[[CHUNK % 3, (CHUNK + 1) % 3]], atol=1e-6)
