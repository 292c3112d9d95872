"""Test scans that a bundle has learnt from: left out of a test on another archive, counted, and never half of it.

In protocols with sides of their own nothing is left out: there, a bundle that has learnt from a test scan is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from operator import methodcaller
from typing import Any

from sonoseek.core import SplitError
from sonoseek.encoder import Bundle, SeenScan, TrainingScans
from sonoseek.evaluate.context import BenchmarkContext, SeenInTraining
from sonoseek.evaluate.leakage import GroupNumbers
from sonoseek.evaluate.protocols.base import OWN_ARCHIVES, CaseSet, Key, Round
from sonoseek.evaluate.systems.base import LabelledScan
from sonoseek.evaluate.systems.bundle import check_unseen

MOST_DROPPED = 0.5
"""Share of the test scans above which what is left is no test of another archive."""
MOST_COPIES = 0.05
"""Share of a round's test scans that may resemble training scans by their perceptual hash alone, in protocols with
fixed sides. Those sides are free of copies already, and one other scan in a thousand is taken for one."""


def in_words(overlap: Mapping[str, Any]) -> str:
    """One sentence of `SeenInTraining`, as a dict, for the command line and the page."""
    learnt, related = overlap["dropped"] - overlap["related"], overlap["related"]
    also = f", and {related} more are of the same patient, group or case" if related else ""
    outcome = "; dropped" if overlap["dropped"] else ""
    return f"{learnt} of {overlap['scans']} scans were in the training data of {overlap['bundle']}{also}{outcome}"


def check_sides(context: BenchmarkContext, bundle_of: Callable[[Round], Bundle]) -> None:
    """Refuse bundles that have learnt from a test scan of a protocol with sides of its own, under whatever name.

    Names are compared first, then, in guarded protocols, pixels and perceptual hashes. A protocol that flatters lets
    copies cross on purpose.

    Args:
        context: of any protocol; one that `without_seen` narrows is left alone.
        bundle_of: gives the finished bundle of a round.

    Raises:
        SplitError: with the number of scans and the remedy.
    """
    if getattr(context.protocol, "drops_seen", False):
        return
    for round_ in context.rounds:
        check_unseen(bundle_of(round_), round_.test)
    for round_ in context.rounds if context.protocol.guarded else ():
        bundle = bundle_of(round_)
        if bundle.training_scans is None:
            continue
        samples = context.samples(round_.test)
        matches = [seen for sample in samples if (seen := bundle.training_scans.find(sample.scan)) is not None]
        if any(seen.exact for seen in matches) or len(matches) > MOST_COPIES * len(samples):
            raise SplitError(
                f"round {round_.label}: {len(matches)} of {len(samples)} test scans were in the training data of "
                f"{bundle.bundle_id}, under other names ({sum(seen.exact for seen in matches)} as they are); it must "
                "have seen none. Let `--system RECIPE` train one bundle per round."
            )


def without_seen(
    context: BenchmarkContext,
    bundle_of: Callable[[Round], Bundle],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> BenchmarkContext:
    """Take the cases that a bundle has learnt from off the test sides of a protocol that tests elsewhere.

    A scan counts as learnt from when its pixels or its perceptual hash are among those that the bundle carries, or when
    the bundle lists its case of a published dataset. Its case, patient and group go with it: they must not part.
    Training sides stay: they are the gallery.

    Args:
        context: of any protocol; those that do not test finished bundles on other archives are left as they are.
        bundle_of: gives the bundle that predicts in a round.
        on_progress: (scans checked, scans in all).

    Returns:
        The context without these cases, with `BenchmarkContext.seen`; unchanged where this was done for the same
        bundle.

    Raises:
        SplitError: more than half of the scans are dropped; the bundle does not carry the hashes that show it.
    """
    if not getattr(context.protocol, "drops_seen", False):
        return context
    bundles = {round_.label: bundle_of(round_) for round_ in context.rounds}
    bundle_ids = ", ".join(dict.fromkeys(bundle.bundle_id for bundle in bundles.values()))
    if context.seen is not None and context.seen.bundle == bundle_ids:
        return context
    rounds = []
    scans = dropped = learnt = exact = 0
    for round_ in context.rounds:
        samples = context.samples(round_.test)
        hits: list[bool] = []
        groups: set[int] = set()
        for number, sample in enumerate(samples, start=1):
            key = _key(sample)
            if (hit := learnt_from(bundles[round_.label], key, methodcaller("find", sample.scan))) is not None:
                hits.append(hit)
                groups.add(context.groups[key])
            if on_progress is not None:
                on_progress(number, len(samples))
        scans += len(samples)
        dropped += sum(context.groups[_key(sample)] in groups for sample in samples)
        learnt += len(hits)
        exact += sum(hits)
        rounds.append(replace(round_, test=_without(round_.test, groups, context.groups)))
    if dropped > MOST_DROPPED * scans:
        also = "" if dropped == learnt else f", and {dropped - learnt} more are of the same patient, group or case"
        raise SplitError(
            f"{learnt} of {scans} scans were in the training data of {bundle_ids} ({exact} as they are, "
            f"{learnt - exact} as copies: re-saved, rescaled, mirrored or cropped){also}; where more than half would "
            "be dropped, no figure is given, because it would say how well the bundle remembers. Test on scans that it "
            "has not learnt from, or let `--system RECIPE` train a network without these."
        )
    seen = SeenInTraining(bundle=bundle_ids, scans=scans, dropped=dropped, related=dropped - learnt, exact=exact)
    return replace(context, rounds=tuple(rounds), seen=seen)


def learnt_from(bundle: Bundle, key: Key, find: Callable[[TrainingScans], SeenScan | None]) -> bool | None:
    """Whether a bundle was trained on a scan: None, it was not; True, on it as it is; False, on a copy.

    Args:
        bundle: the bundle.
        key: (dataset, case_id) of the scan; in published datasets the name decides.
        find: looks the scan up among those that the bundle was trained on.

    Raises:
        SplitError: the bundle does not carry the hashes that show it.
    """
    dataset, case_id = key
    cases = bundle.training.get("cases", {})
    if dataset not in OWN_ARCHIVES and case_id in cases.get(dataset, ()):
        return True
    if bundle.training_scans is None:
        if not set(cases) - {"phantom"}:  # nobody's scans: nothing to be recognised
            return None
        raise SplitError(
            f"bundle {bundle.bundle_id} does not carry the hashes of the scans that it was trained on; whether these "
            "are among them cannot be decided, and figures would prove nothing. Export the bundle again, or add the "
            "hashes with benchmarks/add_training_scans.py."
        )
    seen = find(bundle.training_scans)
    return None if seen is None else seen.exact


def _key(sample: LabelledScan) -> Key:
    return sample.record.dataset, sample.record.case_id


def _without(side: CaseSet, dropped: Collection[int], groups: GroupNumbers) -> CaseSet:
    """A side less the cases of some groups."""
    return {
        name: tuple(case_id for case_id in ids if groups[name, case_id] not in dropped) for name, ids in side.items()
    }
