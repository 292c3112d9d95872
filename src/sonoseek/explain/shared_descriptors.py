"""Descriptors of the BI-RADS lexicon that matches share, beside how usual each is in the archive.

"7 of 10 spiculated, 12 % in the gallery": the words come from people who described the matches, never from the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sonoseek.core import DESCRIPTORS, Match, SharedDescriptor

SHARED_BY = 2
"""Matches that must carry a word for it to be called shared."""


def shared_descriptors(
    matches: Sequence[Match], words: Callable[[], Mapping[str, Mapping[str, int]]]
) -> tuple[SharedDescriptor, ...]:
    """Descriptors that two or more matches share.

    Matches of one group count once, as one similar case.

    Args:
        matches: of a search.
        words: gives feature → word → scans of the gallery, and under "" the scans described for the feature
            (`Gallery.words`); asked only where a match is described at all.

    Returns:
        Those in which the matches differ most from the gallery first; () where no two matches share a word.
    """
    independent: dict[tuple[str, str] | int, Match] = {}
    for match in matches:
        independent.setdefault(match.rank if match.group is None else (match.dataset, match.group), match)
    described = [set(match.descriptors) for match in independent.values() if match.descriptors]
    if not described:
        return ()
    counts = words()
    found = []
    for feature in DESCRIPTORS:
        those = [pairs for pairs in described if any(name == feature for name, _ in pairs)]
        for word in sorted({word for pairs in those for name, word in pairs if name == feature}):
            carrying = sum((feature, word) in pairs for pairs in those)
            usual = counts.get(feature, {})
            if carrying >= SHARED_BY and usual.get(""):
                share = min(usual.get(word, 0) / usual[""], 1.0)
                found.append(
                    SharedDescriptor(
                        feature=feature, descriptor=word, matches=carrying, described=len(those), share=share
                    )
                )
    return tuple(sorted(found, key=lambda each: -abs(each.matches / each.described - each.share)))
