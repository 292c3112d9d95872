"""Distillation: teachers are asked about the same views, must clean alike, and must not have seen the test side."""

import json
import shutil

import msgspec
import numpy as np
import pytest
import torch

from sonoseek.core import BundleError, InvalidValueError, SplitError
from sonoseek.encoder import OnnxEncoder, load_bundle
from sonoseek.training.building import load_trained, trained_beside
from sonoseek.training.losses import distillation, same_similarity
from sonoseek.training.options import Machine
from sonoseek.training.run import train
from sonoseek.training.teachers import Teachers


@pytest.fixture(scope="module")
def teacher(tiny_recipe, tmp_path_factory):
    return train(tiny_recipe, data_root=None, run_dir=tmp_path_factory.mktemp("teacher"), fold=0)


def test_teachers_speak_of_the_views_they_are_shown(tiny_recipe, teacher):
    canvases = torch.rand(4, 1, 64, 64)
    logits, cosines = Teachers([teacher, teacher], tiny_recipe, unseen={}).read(canvases)
    alone = OnnxEncoder(load_bundle(teacher), threads=1).encode(canvases.numpy())
    wanted = torch.from_numpy(alone.logits / load_bundle(teacher).temperature).log_softmax(1)
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)
    assert cosines.shape == (4, 4)
    torch.testing.assert_close(cosines.diagonal(), torch.ones(4), atol=1e-5, rtol=0)


def test_a_teacher_that_cleans_otherwise_is_refused(tiny_recipe, teacher):
    coarser = msgspec.structs.replace(tiny_recipe, preprocessing={"canvas_size": 96})
    other = msgspec.structs.replace(tiny_recipe, preprocessing={"canvas_size": 64, "contrast": "none"})
    for student in (coarser, other):
        with pytest.raises(InvalidValueError, match="Give all the same"):
            Teachers([teacher], student, unseen={})


@pytest.mark.slow
def test_a_teacher_may_read_a_finer_canvas(tiny_recipe, teacher, tmp_path, monkeypatch):
    sides = []
    read = Teachers.read

    def noted(self, canvases):
        sides.append(canvases.shape[-1])
        return read(self, canvases)

    monkeypatch.setattr(Teachers, "read", noted)
    student = msgspec.structs.replace(tiny_recipe, name="student", preprocessing={"canvas_size": 32})
    bundle = train(student, data_root=None, run_dir=tmp_path / "student", fold=0, teachers=[teacher])
    assert set(sides) == {64}
    assert load_bundle(bundle).recipe.canvas_size == 32


def test_a_teacher_that_reads_once_is_the_network_of_its_run(tiny_recipe, teacher, tmp_path):
    once = msgspec.structs.replace(
        tiny_recipe, teacher=msgspec.structs.replace(tiny_recipe.teacher, once=True), many_views=False
    )
    canvases = torch.rand(4, 1, 64, 64)
    logits, _ = Teachers([teacher], once, unseen={}).read(canvases)
    with torch.no_grad():
        alone = load_trained(teacher.parent, once=True)(canvases).logits
    wanted = (alone / load_bundle(teacher).temperature).log_softmax(1)
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)
    shutil.copytree(teacher, tmp_path / "alone")
    with pytest.raises(InvalidValueError, match="not in its run's folder"):
        Teachers([tmp_path / "alone"], once, unseen={})


def test_a_teacher_that_has_seen_a_test_scan_is_refused(tiny_recipe, teacher):
    seen = load_bundle(teacher).training["cases"]["phantom"][0]
    with pytest.raises(SplitError, match="must have seen none"):
        Teachers([teacher], tiny_recipe, unseen={"phantom": [seen]})


def test_a_student_learns_its_teachers_word(tiny_recipe, teacher, tmp_path):
    options = msgspec.structs.replace(tiny_recipe.teacher, weight=1.0, similarity=0.5)
    student = msgspec.structs.replace(tiny_recipe, name="student", teacher=options, seed=1)
    bundle = train(student, data_root=None, run_dir=tmp_path / "student", fold=0, teachers=[teacher])
    assert load_bundle(bundle).name == "student"
    assert (tmp_path / "student" / "metrics.json").is_file()


def test_the_losses_are_0_where_both_say_the_same():
    logits = torch.tensor(np.random.default_rng(0).normal(size=(5, 3)), dtype=torch.float32)
    same = distillation(logits, logits + 3.0, temperature=2.0)
    torch.testing.assert_close(same, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert distillation(logits, -logits, temperature=2.0) > 0.1
    units = torch.nn.functional.normalize(logits, dim=1)
    torch.testing.assert_close(same_similarity(logits, units @ units.T), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert same_similarity(logits, -(units @ units.T)) > 0.1


def test_the_network_beside_a_bundle_says_what_the_bundle_says(tiny_recipe, teacher):
    canvases = torch.rand(3, 1, 64, 64)
    canvases[:, :, :9] = -1
    network = load_trained(trained_beside(teacher))
    with torch.no_grad():
        out = network(canvases)
    encoding = OnnxEncoder(load_bundle(teacher), threads=1).encode(canvases.numpy())
    np.testing.assert_allclose(out.logits.numpy(), encoding.logits, atol=1e-4)
    np.testing.assert_allclose(out.embedding.numpy(), encoding.embedding, atol=1e-4)


def test_a_bundle_that_left_its_run_has_no_network_beside_it(teacher, tmp_path):
    alone = tmp_path / "bundle"
    shutil.copytree(teacher, alone)
    assert trained_beside(alone) is None
    assert trained_beside(teacher) == teacher.parent


def test_weights_of_another_network_are_refused(teacher, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(teacher.parent, run, ignore=shutil.ignore_patterns("prepared", "checkpoints"))
    said = json.loads((run / "recipe.json").read_text())
    (run / "recipe.json").write_text(json.dumps({**said, "embedding_dim": 24}))
    with pytest.raises(BundleError, match="holds another network than"):
        load_trained(run)


def test_the_card_names_the_teachers(tiny_recipe, teacher, tmp_path):
    student = msgspec.structs.replace(tiny_recipe, name="taught")
    bundle = train(student, data_root=None, run_dir=tmp_path / "taught", fold=0, teachers=[teacher])
    assert load_bundle(teacher).bundle_id in (bundle / "MODEL_CARD.md").read_text()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["32", "16", "bf16"])
def test_a_student_is_taught_on_a_gpu_by_the_networks_themselves(tiny_recipe, teacher, tmp_path, precision):
    teachers = Teachers([teacher], tiny_recipe, unseen={})
    canvases = torch.rand(4, 1, 64, 64)
    there, here = teachers.read(canvases.cuda()), teachers.read(canvases)
    torch.testing.assert_close(there[0].cpu(), here[0], atol=1e-3, rtol=1e-3)
    bundle = train(
        msgspec.structs.replace(tiny_recipe, name="student"),
        data_root=None,
        run_dir=tmp_path / "student",
        fold=0,
        teachers=[teacher],
        machine=Machine(accelerator="gpu", precision=precision),
    )
    assert load_bundle(bundle).training["onnx_vs_torch"] < 1e-4
