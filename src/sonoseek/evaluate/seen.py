"""Test scans that a bundle has learnt from: left out of a test on another archive, counted, and never half of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from sonoseek.core import Scan, SplitError
from sonoseek.encoder import Bundle
from sonoseek.evaluate.protocols.base import OWN_ARCHIVES, CaseSet, Key, Round
from sonoseek.evaluate.scene import Scene, SeenInTraining

MOST_DROPPED = 0.5
"""Share of the test scans above which what is left is no test of another archive."""


def in_words(found: Mapping[str, Any]) -> str:
    """One sentence of what `SeenInTraining.as_dict` says, for the command line and the page."""
    outcome = "; dropped" if found["dropped"] else ""
    return f"{found['dropped']} of {found['scans']} scans were in the training data of {found['bundle']}{outcome}"


def without_seen(
    scene: Scene, bundle_of: Callable[[Round], Bundle], *, on_progress: Callable[[int, int], None] | None = None
) -> Scene:
    """Take the cases that a bundle has learnt from off the test sides of a protocol that tests elsewhere.

    A scan counts as learnt from when its pixels or its perceptual hash are among those that the bundle carries, or when
    the bundle lists its case of a published dataset. Training sides stay: they are what may answer.

    Args:
        scene: of any protocol; those that do not test finished bundles on other archives are left as they are.
        bundle_of: gives the bundle that speaks in a round.
        on_progress: (scans looked at, scans in all).

    Returns:
        The scene without these cases, with `Scene.seen`; a scene that went through this for the same bundle as it is.

    Raises:
        SplitError: more than half of the scans are dropped; the bundle does not carry what it takes to tell.
    """
    if not getattr(scene.protocol, "drops_seen", False):
        return scene
    bundles = {round_.label: bundle_of(round_) for round_ in scene.rounds}
    speaks = ", ".join(dict.fromkeys(bundle.bundle_id for bundle in bundles.values()))
    if scene.seen is not None and scene.seen.bundle == speaks:
        return scene
    rounds = []
    scans = dropped = exact = 0
    for round_ in scene.rounds:
        samples = scene.samples(round_.test)
        hits: dict[Key, list[bool]] = {}
        sizes: dict[Key, int] = {}
        for number, sample in enumerate(samples, start=1):
            key = (sample.record.dataset, sample.record.case_id)
            sizes[key] = sizes.get(key, 0) + 1
            if (hit := _learnt(bundles[round_.label], key, sample.scan)) is not None:
                hits.setdefault(key, []).append(hit)
            if on_progress is not None:
                on_progress(number, len(samples))
        scans += len(samples)
        dropped += sum(sizes[key] for key in hits)
        exact += sum(map(sum, hits.values()))
        rounds.append(replace(round_, test=_without(round_.test, hits)))
    if dropped > MOST_DROPPED * scans:
        raise SplitError(
            f"{dropped} of {scans} scans were in the training data of {speaks} ({exact} as they are, "
            f"{dropped - exact} as copies: re-saved, rescaled, mirrored or cropped); where more than half were, no "
            "figure is given, because it would say how well the bundle remembers. Test on scans that it has not learnt "
            "from, or let `--system RECIPE` train a network without these."
        )
    seen = SeenInTraining(bundle=speaks, scans=scans, dropped=dropped, exact=exact)
    return replace(scene, rounds=tuple(rounds), seen=seen)


def _learnt(bundle: Bundle, key: Key, scan: Scan) -> bool | None:
    """Whether a scan was learnt from: None, it was not; True, as it is; False, as a copy."""
    dataset, case_id = key
    cases = bundle.training.get("cases", {})
    if dataset not in OWN_ARCHIVES and case_id in cases.get(dataset, ()):
        return True
    if bundle.training_scans is None:
        if not set(cases) - {"phantom"}:  # nobody's scans: nothing to be recognised
            return None
        raise SplitError(
            f"bundle {bundle.bundle_id} does not carry the hashes of the scans that it was trained on; whether these "
            "are among them cannot be told, and figures would prove nothing. Export the bundle again, or add the "
            "hashes with benchmarks/add_training_scans.py."
        )
    seen = bundle.training_scans.find(scan)
    return None if seen is None else seen.exact


def _without(side: CaseSet, hits: Mapping[Key, object]) -> CaseSet:
    return {name: tuple(case_id for case_id in ids if (name, case_id) not in hits) for name, ids in side.items()}
