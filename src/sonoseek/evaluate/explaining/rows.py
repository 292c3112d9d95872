"""What is measured of one map, one pair, one outline: rows of the result tables (`evaluate.tables`)."""

from __future__ import annotations

import math

import msgspec

NAN = math.nan
OWN, OWN_PAIR = "class_evidence", "pair_evidence"


class MapRow(msgspec.Struct, frozen=True, kw_only=True):
    """One map of one scan; NaN where something was not measured or does not apply.

    Attributes:
        fold, scan, group, label: of the scan.
        prediction: the likeliest class. target: "prediction" or "truth": which of the two classes the map explains.
        method: in the table of methods, or "centre" and "random", the baselines.
        area: share of the scan that the mask covers.
        inside, with_shadow, pointing, iou: as `Localisation`.
        insertion, deletion, road: as in `faithfulness`.
        randomised: rank correlation with the map of the same network with random weights, where there is scan.
        other_class: rank correlation with the map of the second likeliest class.
        shifted, gained: rank correlation with the map of the scan shifted by a few pixels, of the scan 10 % brighter.
        error: |pixels + bias − logit| of an exact method.
    """

    fold: int
    scan: str
    group: str
    label: str
    prediction: str
    target: str
    method: str
    area: float = NAN
    inside: float = NAN
    with_shadow: float = NAN
    pointing: float = NAN
    iou: float = NAN
    insertion: float = NAN
    deletion: float = NAN
    road: float = NAN
    randomised: float = NAN
    other_class: float = NAN
    shifted: float = NAN
    gained: float = NAN
    error: float = NAN


class PairRow(msgspec.Struct, frozen=True, kw_only=True):
    """One pair map: how far the similarity falls when its strongest tenth of cells goes, and when a random tenth goes.

    Attributes:
        fold, scan, group, label: of the query. match: the best one of the gallery.
        side: "query" or "match": whose cells go.
        method: in the table of methods, or "centre".
        similarity: cosine before.
        chosen, random: its fall.
        error: |pixels − cosine| of an exact method.
    """

    fold: int
    scan: str
    group: str
    label: str
    match: str
    side: str
    method: str
    similarity: float
    chosen: float
    random: float
    error: float = NAN


class OutlineRow(msgspec.Struct, frozen=True, kw_only=True):
    """The outline of one prediction's evidence beside the drawn mask; lengths as ratios, estimate over truth.

    Attributes:
        fold, scan, group, label, prediction: of the scan.
        drawn: 1 where there was anything to outline.
        dice: overlap. longest, shortest, area: estimate over mask.
        depth: estimate minus mask, as a share of the scan's height.
        taller: 1 where estimate and mask agree on "taller than wide".
    """

    fold: int
    scan: str
    group: str
    label: str
    prediction: str
    drawn: float
    dice: float = NAN
    longest: float = NAN
    shortest: float = NAN
    area: float = NAN
    depth: float = NAN
    taller: float = NAN
