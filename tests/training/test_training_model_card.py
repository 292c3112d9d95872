"""The card says what its reader looks for, and says of figures and failures only what can be made again."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from sonoseek.apps.cli.data import write_phantoms
from sonoseek.apps.cli.main import app
from sonoseek.core import BundleError, InvalidValueError, NotFoundError, ResultsError
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import load_bundle
from sonoseek.evaluate.ood import fit_ood
from sonoseek.io import read_scan
from sonoseek.training import card_failures, export_run, load_recipe, run_export
from sonoseek.training.card_failures import FAILURE_SEED, failures_section, find_failures
from sonoseek.training.card_results import read_card_results, results_section
from sonoseek.training.model_card import model_card
from sonoseek.training.provenance import command_of, command_shown
from sonoseek.training.recipe import recipe_digest, recipe_to_dict
from sonoseek.training.run import train
from sonoseek.training.systems import RecipeSystem

COUNT = 12
SECTIONS = (
    "What it is",
    "Intended use",
    "Not intended",
    "How it was made",
    "Data",
    "Figures of the protocols",
    "Figures of the training",
    "Failure examples",
    "Limits",
    "Calibration",
    "Licences",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_recipe):
    """A finished run; its environment says that the command line started it."""
    run = tmp_path_factory.mktemp("run") / "one"
    recipe = msgspec.structs.replace(tiny_recipe, optimiser=msgspec.structs.replace(tiny_recipe.optimiser, epochs=1))
    train(recipe, data_root=None, run_dir=run)
    file = run / "environment.json"
    calls = json.loads(file.read_text())
    calls[0]["command"] = ["sonoseek", "train", "recipes/tiny.toml", "--run", "runs/tiny", "--data", "/home/me/scans"]
    file.write_text(json.dumps(calls))
    return run


@pytest.fixture
def few(monkeypatch):
    """Fewer phantoms: seconds count."""
    find = card_failures.find_failures
    monkeypatch.setattr(run_export, "find_failures", lambda bundle, **given: find(bundle, count=COUNT, **given))


def scores(*systems, protocol="busi-grouped", guarded=True):
    """As `evaluate` writes it."""
    about = {"name": protocol, "title": f"Title of {protocol}", "description": "", "guarded": guarded}
    return json.dumps({"protocol": about, "systems": {told["system"]["name"]: told for told in systems}})


def metrics(system="tiny", *, protocol="busi-grouped", devices=None, identity="0"):
    """One system of it, numbers made up."""

    def figure(value):
        return {"mean": value, "sd": 0.02, "pooled": value, "low": value - 0.05, "high": value + 0.05, "folds": [value]}

    none = {"mean": None, "sd": None, "pooled": None, "low": None, "high": None, "folds": [None]}
    return {
        "system": {"name": system, "title": system, "description": "A tiny network.", "identity": identity},
        "made": {"command": f"sonoseek evaluate --protocol {protocol} --system {system}", "data": "0"},
        "counts": {"scans": 40, "scored": 39},
        "classification": {
            "accuracy": figure(0.612),
            "balanced_accuracy": figure(0.587),
            "auroc_malignant": none,
            "ece": figure(0.091),
        },
        "retrieval": {"precision@5": figure(0.555), "map_full": figure(0.444)},
        "subsets": {"label": {}} if devices is None else {"device": devices},
    }


@pytest.fixture
def results(tmp_path):
    """Two protocols, one of them unguarded and one with scanners, and a system beside."""
    part = {"value": 0.701, "low": 0.65, "high": 0.75}
    devices = {"GE | Logiq": {"scans": 21, "accuracy": part, "auroc_malignant": {**part, "value": None}, "map_full": 1}}
    for name, text in {
        "a-leaky": scores(metrics(protocol="a-leaky"), protocol="a-leaky", guarded=False),
        "busi-grouped": scores(metrics(devices=devices), metrics("radiomics")),
    }.items():
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / "scores.json").write_text(text)
    return tmp_path / "results"


def section(card, title):
    return card.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_training_leaves_a_card_with_every_section_and_says_what_is_missing(finished):
    card = (finished / "bundle" / "MODEL_CARD.md").read_text()
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == list(SECTIONS)
    for title in ("Figures of the protocols", "Failure examples"):
        assert "sonoseek export RUN --out DIR --results" in section(card, title)
    assert "screening" in section(card, "Not intended")
    assert "second reader" in section(card, "Not intended")
    assert "network `hybrid` on `tiny`: CNN → GRU" in section(card, "What it is")
    assert "| phantom | drawn by code" in section(card, "Data")
    assert "CC0-1.0" in section(card, "Data")
    counts = load_bundle(finished / "bundle").training["datasets"][0]["counts"]
    assert f"{counts['normal']} normal, {counts['benign']} benign, {counts['malignant']} malignant" in card
    bundle = load_bundle(finished / "bundle")
    for name, point in bundle.operating_points.items():
        row = f"| `{name}` | {point['threshold']:.3f} | {point['sensitivity']:.3f} | {point['specificity']:.3f} |"
        assert row in section(card, "Calibration")
    assert "`specificity_90`" in section(card, "Calibration")


def test_export_completes_the_card_and_leaves_the_bundle_as_it_is(finished, results, few, tmp_path):
    before = load_bundle(finished / "bundle")
    out = export_run(finished, tmp_path / "out", results=results)
    assert load_bundle(out).bundle_id == before.bundle_id
    for name in ("model.onnx", "bundle.json"):
        assert (out / name).read_bytes() == (finished / "bundle" / name).read_bytes()
    assert {path.name for path in out.iterdir()} == {"model.onnx", "bundle.json", "MODEL_CARD.md"}
    card, old = ((folder / "MODEL_CARD.md").read_text() for folder in (out, finished / "bundle"))
    assert "Not here yet" not in card
    assert "Not here yet" in old
    assert section(card, "What it is") == section(old, "What it is")  # the number of weights included
    made = section(card, "How it was made")
    assert "One recipe, `tiny`, and one command" in made
    assert "    sonoseek train recipes/tiny.toml --run runs/tiny\n" in made
    assert "/home/me" not in card
    told = section(card, "Figures of the protocols")
    grouped = "| Title of busi-grouped (`busi-grouped`) | 39 | 0.612 [0.562, 0.662] | 0.587 [0.537, 0.637] | – |"
    assert f"{grouped} 0.091 [0.041, 0.141] | 0.555 [0.505, 0.605] | 0.444 [0.394, 0.494] |" in told
    assert told.index("(`a-leaky`) †") > told.index("(`busi-grouped`)")  # what flatters comes last, and is marked
    assert "| `busi-grouped` | GE \\| Logiq | 21 | 0.701 [0.650, 0.750] | – |" in told
    assert "    sonoseek evaluate --protocol busi-grouped --system tiny\n" in told
    assert "another recipe than this bundle's" in told
    assert "radiomics" not in told
    assert f"of seed {FAILURE_SEED}" in section(card, "Failure examples")


def test_whose_figures_they_are_is_said_by_the_systems_identity(finished, results, few, tmp_path):
    bundle = load_bundle(finished / "bundle")
    own = recipe_digest(bundle.training["recipe"])
    for identity, words in ((own, "this bundle's recipe, trained anew"), (bundle.bundle_id, "this very bundle")):
        (results / "busi-grouped" / "scores.json").write_text(scores(metrics(identity=identity)))
        (results / "a-leaky" / "scores.json").unlink(missing_ok=True)
        export_run(finished, tmp_path / "out", results=results, system="tiny")
        told = section((tmp_path / "out" / "MODEL_CARD.md").read_text(), "Figures of the protocols")
        assert words in told
        assert "†" not in told
        assert "do not say which scanner" in told


def test_a_recipes_identity_is_that_of_its_system(tiny_recipe, tmp_path):
    """What `export_run` computes from a manifest is what an evaluation noted."""
    system = RecipeSystem(tiny_recipe, data_root=None, weights_root=None, cache=tmp_path)
    noted = json.loads(json.dumps(recipe_to_dict(tiny_recipe)))
    assert recipe_digest(noted) == system.identity


def test_results_that_are_not_there_or_do_not_read_are_refused(results, tmp_path):
    with pytest.raises(NotFoundError, match="no results under"):
        read_card_results(tmp_path / "nowhere", system="tiny")
    with pytest.raises(NotFoundError, match="Did you mean 'radiomics'"):
        read_card_results(results, system="radiomic")
    with pytest.raises(NotFoundError, match="Known are: radiomics, tiny"):
        read_card_results(results, system="zzz")
    file = results / "busi-grouped" / "scores.json"
    lacking = metrics("radiomics")
    del lacking["classification"]["ece"]
    for content, words in (
        ("{", "does not read"),
        (json.dumps({"protocol": 1}), "does not read"),
        (scores(lacking), "lacks ece"),
        (scores(metrics("radiomics")).replace('"name": "radiomics"', '"name": "tiny"'), "is called 'tiny' there"),
        (scores(metrics("radiomics")).replace('"made"', '"maid"'), "does not read"),
    ):
        file.write_text(content)
        with pytest.raises(ResultsError, match=words):
            read_card_results(results, system="radiomics")


def test_the_committed_results_read():
    root = Path(__file__).parents[2] / "docs" / "results"
    found = read_card_results(root, system="radiomics")
    assert {each.protocol.name for each in found} >= {"busi-grouped", "busbra-official"}
    assert "| `busbra-official` | GE Logiq 7 | 902 |" in results_section(found, identities={})


def test_a_failed_export_leaves_nothing(finished, results, tmp_path):
    with pytest.raises(NotFoundError, match="'nobody'"):
        export_run(finished, tmp_path / "out", results=results, system="nobody")
    with pytest.raises(InvalidValueError, match="no folder of results"):
        export_run(finished, tmp_path / "out", system="tiny")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "network.safetensors").write_bytes(b"no")
    with pytest.raises(BundleError, match="does not read"):
        run_export._parameters(tmp_path / "damaged" / "network.safetensors")
    assert not (tmp_path / "out").exists()


def test_the_state_of_a_normalisation_is_no_weight(tmp_path):
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4))
    save_file(layers.state_dict(), tmp_path / "network.safetensors")
    assert run_export._parameters(tmp_path / "network.safetensors") == sum(p.numel() for p in layers.parameters())


def test_failures_are_wrong_sure_and_can_be_made_again(finished, tmp_path):
    found = find_failures(finished / "bundle", count=COUNT, most=3)
    assert find_failures(finished / "bundle", count=COUNT, most=3) == found
    assert found.scored == COUNT
    assert 0 < found.wrong <= COUNT  # a network of one epoch on a few phantoms
    assert len(found.worst) == min(3, found.wrong)
    ranks = [(not each.given, -each.probability) for each in found.worst]
    assert ranks == sorted(ranks)
    assert all(each.predicted != each.plan.pathology for each in found.worst)
    text = failures_section(found)
    write_phantoms(tmp_path / "phantoms", count=COUNT, seed=FAILURE_SEED)  # what the card's command does
    assert f"sonoseek data phantom --out phantoms --count {COUNT} --seed {FAILURE_SEED}" in text
    query = next(line.split() for line in text.splitlines() if line.strip().startswith("sonoseek query"))
    scan = read_scan(tmp_path / query[2])
    drawn = PhantomDataset(count=COUNT, seed=FAILURE_SEED).load(found.worst[0].plan.case_id).scans[0]
    np.testing.assert_array_equal(scan.pixels, drawn.pixels)
    asked = CliRunner().invoke(
        app, ["query", str(tmp_path / query[2]), "--bundle", str(finished / "bundle"), "--format", "json"]
    )
    said = json.loads(asked.stdout)["prediction"]["probabilities"]
    assert said[found.worst[0].predicted] == pytest.approx(found.worst[0].probability, abs=1e-4)


def test_failures_on_phantoms_that_it_has_learnt_from_are_not_shown(finished):
    learnt = load_bundle(finished / "bundle").training["cases"]["phantom"]
    seed = int(learnt[0].split("-")[1]) // 1_000_000
    with pytest.raises(InvalidValueError, match="learnt from all"):
        find_failures(finished / "bundle", seed=seed, count=len(learnt))
    assert find_failures(finished / "bundle", seed=seed, count=len(learnt) + 2, most=0).scored == 2
    with pytest.raises(InvalidValueError, match="most is -1"):
        find_failures(finished / "bundle", most=-1)
    none = failures_section(replace(find_failures(finished / "bundle", count=2), worst=()))
    assert "See them again" not in none


def test_no_recipe_of_the_repository_learns_from_the_phantoms_of_the_card():
    recipes = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
    seeds = {c.seed for path in recipes for c in load_recipe(path).datasets if c.name == "phantom"}
    assert seeds
    assert FAILURE_SEED not in seeds


def test_what_becomes_of_strangers_follows_the_manifest(finished):
    manifest = json.loads((finished / "bundle" / "bundle.json").read_text())
    drawn = np.random.default_rng(0).normal(size=(60, manifest["embedding_dim"]))
    fitted = fit_ood(drawn[:40], drawn[40:])
    with_it = section(model_card({**manifest, "ood": fitted}, parameters=1), "Limits")
    without = section(model_card({k: v for k, v in manifest.items() if k != "ood"}, parameters=1), "Limits")
    assert "mostly get no prediction" in with_it
    assert "out-of-distribution.md" in with_it
    assert "get a prediction too" not in with_it
    assert "get a prediction too" in without
    assert "mostly get no prediction" not in without


def test_a_bundle_that_says_little_still_gets_a_card(finished):
    """A placeholder, made by no recipe."""
    manifest = json.loads((finished / "bundle" / "bundle.json").read_text())
    card = model_card({**manifest, "training": {}, "operating_points": {}, "licences": {}}, parameters=1)
    assert "By no recipe." in section(card, "How it was made")
    assert section(card, "Data").strip() == "None."
    assert "No operating points" in section(card, "Calibration")
    assert "network `" not in section(card, "What it is")


def test_the_runs_that_a_run_needs_are_named(finished):
    manifest = json.loads((finished / "bundle" / "bundle.json").read_text())
    alone = section(model_card(manifest, parameters=1, command="sonoseek train a.toml --run r"), "How it was made")
    assert "other runs" not in alone
    recipe = {**manifest["training"]["recipe"], "start": {"weights": "runs/start/network.safetensors"}}
    manifest["training"] = {**manifest["training"], "recipe": recipe}
    command = "sonoseek train a.toml --run r --folds-from runs/folds --teacher=runs/big/bundle"
    told = section(model_card(manifest, parameters=1, command=command), "How it was made")
    assert "`runs/folds`, `runs/big/bundle`, `runs/start/network.safetensors`" in told


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["sonoseek", "train", "a.toml", "--run", "runs/a"], "sonoseek train a.toml --run runs/a"),
        (["__main__.py", "train", "a.toml", "--resume", "--run", "r"], "sonoseek train a.toml --run r"),
        (["sonoseek", "train", "/x/y/a.toml", "--data=/x", "--run=/x/y/r"], "sonoseek train a.toml --run=r"),
        (["sonoseek", "train", "a.toml", "--weights", "/w", "--folds", "0"], "sonoseek train a.toml --folds 0"),
        (["sonoseek", "train", "a b.toml", "--run", "r"], "sonoseek train 'a b.toml' --run r"),
        (["pytest", "train"], ""),
        (["sonoseek", "demo"], ""),
        (["sonoseek"], ""),
    ],
)
def test_the_command_is_one_that_another_can_give(command, shown):
    assert command_shown(command) == shown


def test_a_path_below_the_working_folder_stays(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command_shown(["sonoseek", "train", f"{tmp_path}/recipes/a.toml"]) == "sonoseek train recipes/a.toml"


@pytest.mark.parametrize("content", [None, "{", "[]", "[{}]", "3", '[{"command": null}]'])
def test_a_run_that_does_not_say_its_command(tmp_path, content):
    if content is not None:
        (tmp_path / "environment.json").write_text(content)
    assert command_of(tmp_path) == ""


def test_the_verb_completes_the_card_and_refuses_half_a_request(finished, results, few, tmp_path):
    runner = CliRunner()
    out = tmp_path / "out"
    done = runner.invoke(app, ["export", str(finished), "--out", str(out), "--results", str(results)])
    assert done.exit_code == 0
    assert f"bundle: {out}" in done.stdout
    assert "Not here yet" not in (out / "MODEL_CARD.md").read_text()
    for options, words in (
        ([str(finished), "--results-of", "tiny"], "needs --results"),
        (["--ensemble", str(out), "--ensemble", str(out), "--results", str(results)], "needs --calibrate-on"),
    ):
        refused = runner.invoke(app, ["export", *options, "--out", str(tmp_path / "no")])
        assert refused.exit_code != 0
        assert isinstance(refused.exception, InvalidValueError)
        assert words in str(refused.exception)
        assert not (tmp_path / "no").exists()
