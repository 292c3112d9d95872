"""Descriptors of the BI-RADS lexicon that matches share, with their frequency in the archive.

"7 of 10 spiculated, 12 % in the archive": descriptors come from the readers of the archived scans, never from the
network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sonoseek.core import DESCRIPTORS, Match, SharedDescriptor

SHARED_BY = 2
"""Matches with a descriptor from which on it is called shared."""


def shared_descriptors(
    matches: Sequence[Match], descriptor_counts: Callable[[], Mapping[str, Mapping[str, int]]]
) -> tuple[SharedDescriptor, ...]:
    """Descriptors that two or more matches share.

    Matches of one group count once, as one similar case.

    Args:
        matches: of a search.
        descriptor_counts: gives feature → descriptor → scans of the gallery, and under "" the scans described for the
            feature (`Gallery.descriptor_counts`); called only where a match is described at all.

    Returns:
        Those in which the matches differ most from the gallery first; () where no two matches share a descriptor.
    """
    independent: dict[tuple[str, str] | int, Match] = {}
    for match in matches:
        independent.setdefault(match.rank if match.group is None else (match.dataset, match.group), match)
    described = [set(match.descriptors) for match in independent.values() if match.descriptors]
    if not described:
        return ()
    counts = descriptor_counts()
    shared = []
    for feature in DESCRIPTORS:
        with_feature = [pairs for pairs in described if any(name == feature for name, _ in pairs)]
        for descriptor in sorted({value for pairs in with_feature for name, value in pairs if name == feature}):
            count = sum((feature, descriptor) in pairs for pairs in with_feature)
            in_gallery = counts.get(feature, {})
            if count >= SHARED_BY and in_gallery.get(""):
                share = min(in_gallery.get(descriptor, 0) / in_gallery[""], 1.0)
                shared.append(
                    SharedDescriptor(
                        feature=feature,
                        descriptor=descriptor,
                        matches=count,
                        described=len(with_feature),
                        share=share,
                    )
                )
    return tuple(sorted(shared, key=lambda each: -abs(each.matches / each.described - each.share)))
