"""Start weights from the hub: with a stand-in for its client, and with the client itself against a loopback server."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from sonoseek.core import InvalidValueError, MissingExtraError, NotFoundError, TemporaryError
from sonoseek.networks import BACKBONES
from sonoseek.networks.start_weights import load_start_weights, start_weights_path

NAME = "hub:someone/vgg16-small/weights/model.safetensors"


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A client that answers with a file, or raises what it is told to."""
    hub, errors = types.ModuleType("huggingface_hub"), types.ModuleType("huggingface_hub.errors")
    errors.HFValidationError = type("HFValidationError", (ValueError,), {})
    errors.RepositoryNotFoundError = type("RepositoryNotFoundError", (OSError,), {})
    errors.EntryNotFoundError = type("EntryNotFoundError", (Exception,), {})
    errors.LocalEntryNotFoundError = type("LocalEntryNotFoundError", (FileNotFoundError, errors.EntryNotFoundError), {})
    hub.asked, hub.answer = [], tmp_path / "model.safetensors"

    def download(*, repo_id, filename):
        hub.asked.append((repo_id, filename))
        if isinstance(hub.answer, Exception):
            raise hub.answer
        return str(hub.answer)

    hub.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return hub, errors


def test_a_recipe_may_name_a_model(stand_in, tmp_path):
    hub, _ = stand_in
    hub.answer.write_bytes(save({"a": torch.ones(2)}))
    path = start_weights_path(NAME, root=tmp_path / "elsewhere")
    assert hub.asked == [("someone/vgg16-small", "weights/model.safetensors")]
    digest = hashlib.sha256(hub.answer.read_bytes()).hexdigest()
    assert load_start_weights(path, sha256=digest)["a"].tolist() == [1, 1]
    with pytest.raises(InvalidValueError, match="sha256"):
        load_start_weights(path, sha256="0" * 64)


def test_paths_are_what_they_were(tmp_path):
    assert start_weights_path("a.safetensors", root=tmp_path) == tmp_path / "a.safetensors"
    assert start_weights_path("a.safetensors", root=None) == Path("a.safetensors")
    absolute = str(tmp_path / "b.safetensors")
    assert start_weights_path(absolute, root=Path("/elsewhere")) == Path(absolute)


@pytest.mark.parametrize(
    ("kind", "wanted", "words"),
    [
        ("HFValidationError", InvalidValueError, "Correct the recipe"),
        ("RepositoryNotFoundError", NotFoundError, "no model 'someone/vgg16-small'"),
        ("EntryNotFoundError", NotFoundError, r"no file 'weights/model\.safetensors'"),
        ("LocalEntryNotFoundError", TemporaryError, "Try again with a network"),
    ],
)
def test_what_the_client_says_is_said_plainly(stand_in, kind, wanted, words):
    hub, errors = stand_in
    hub.answer = getattr(errors, kind)("told")
    with pytest.raises(wanted, match=words):
        start_weights_path(NAME, root=None)


def test_a_broken_line_is_trouble_that_may_pass(stand_in):
    stand_in[0].answer = ConnectionResetError("told")
    with pytest.raises(TemporaryError, match="hand it out"):
        start_weights_path(NAME, root=None)


@pytest.mark.parametrize("name", ["hub:", "hub:model.safetensors", "hub:a/model.safetensors", "hub:a/b/model.bin"])
def test_what_is_not_a_safetensors_file_of_a_model_is_refused(stand_in, name):
    with pytest.raises(InvalidValueError, match="hub:<owner>/<model>/<file>"):
        start_weights_path(name, root=None)
    assert not stand_in[0].asked


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[hub\]"'):
        start_weights_path(NAME, root=None)


@pytest.fixture
def server():
    """A hub of one model on loopback; yields its address and its file."""
    content = save(
        {k: torch.rand(v.shape) for k, v in BACKBONES.load("vgg16")().state_dict().items() if v.numel() < 2000}
    )
    digest = hashlib.sha256(content).hexdigest()

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            model, file = self.path.startswith("/someone/"), self.path.endswith("/resolve/main/small.safetensors")
            self.send_response(200 if model and file else 404)
            if not model:
                self.send_header("X-Error-Code", "RepoNotFound")
            elif not file:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Content-Length", str(len(content) if model and file else 0))
            self.end_headers()
            if self.command == "GET" and model and file:
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 - the server's spelling

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}", content
        serving.shutdown()


ASK = """
import hashlib, json, sys
from sonoseek.core import SonoseekError
from sonoseek.networks.start_weights import load_start_weights, start_weights_path
said = []
for name in sys.argv[1:]:
    try:
        path = start_weights_path(name, root=None)
        said.append(["file", hashlib.sha256(path.read_bytes()).hexdigest(), len(load_start_weights(path))])
    except SonoseekError as error:
        said.append([type(error).__name__, str(error)])
print(json.dumps(said))
"""


@pytest.mark.slow  # the client tries more than once where nobody listens
@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed")
def test_the_client_itself(server, tmp_path):
    address, content = server
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": address, "NO_PROXY": "127.0.0.1"}

    def ask(*names):
        done = subprocess.run(
            [sys.executable, "-c", ASK, *names], env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout.splitlines()[-1])

    found, other_file, other_model, nonsense = ask(
        "hub:someone/vgg16/small.safetensors",
        "hub:someone/vgg16/large.safetensors",
        "hub:nobody/vgg16/small.safetensors",
        "hub:some one/vgg16/small.safetensors",
    )
    assert found[:2] == ["file", hashlib.sha256(content).hexdigest()]
    assert found[2] > 10
    assert other_file[0] == "NotFoundError"
    assert "no file 'large.safetensors'" in other_file[1]
    assert other_model[0] == "NotFoundError"
    assert "no model 'nobody/vgg16'" in other_model[1]
    assert nonsense[0] == "InvalidValueError"
    environment["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nobody listens there
    known, unknown = ask("hub:someone/vgg16/small.safetensors", "hub:someone/vgg16/large.safetensors")
    assert known == found  # from its cache
    assert unknown[0] == "TemporaryError"
