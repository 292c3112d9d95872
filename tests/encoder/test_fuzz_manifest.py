"""Whatever stands in bundle.json: it is read, or refused with a BundleError."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonoseek.core import BundleError
from sonoseek.encoder import load_bundle
from sonoseek.encoder.manifest import decode_manifest

pytestmark = pytest.mark.long
thorough = settings(
    max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 1e308, 2**63, 10**400, -0.0])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture
def manifest(bundle_folder: Path) -> bytes:
    return (bundle_folder / "bundle.json").read_bytes()


@thorough
@given(data=st.data())
def test_a_key_with_another_value(bundle_folder: Path, manifest: bytes, data: st.DataObject) -> None:
    content = json.loads(manifest)
    for _ in range(data.draw(st.integers(1, 3))):
        place = content
        key = data.draw(st.sampled_from(sorted(place)))
        while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(sorted(place)))
        place[key] = data.draw(values)
    (bundle_folder / "bundle.json").write_text(json.dumps(content))
    try:
        bundle = load_bundle(bundle_folder)
    except BundleError:
        return
    assert bundle.embedding_dim == 8


@thorough
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), min_size=1, max_size=4))
def test_changed_bytes(manifest: bytes, changes: list[tuple[float, bytes]]) -> None:
    body = manifest
    for share, value in changes:
        at = int(share * len(body))
        body = body[:at] + value + body[at + max(len(value), 1) :]
    try:
        decode_manifest(body, where="it")
    except BundleError:
        return


@thorough
@given(st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()))
def test_no_manifest(data: bytes) -> None:
    with pytest.raises(BundleError):
        decode_manifest(data, where="it")
