"""From encoded scans to a Report: the query vector, the search of the gallery, and the explanations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from sonoseek.core import (
    Explanation,
    InvalidValueError,
    Match,
    NotFoundError,
    Prediction,
    Report,
    ReportWarning,
    Scan,
    SearchOptions,
    View,
)
from sonoseek.core.version import __version__
from sonoseek.encoder import Bundle, predict, unpack_evidence
from sonoseek.engine.encoded_scan import EncodedScan
from sonoseek.engine.no_matches import explain_no_matches
from sonoseek.engine.query_vector import QueryVector, build_query
from sonoseek.engine.similar import SimilarCases, count_similar
from sonoseek.explain import class_evidence, draw_contour, pair_evidence, shared_descriptors
from sonoseek.gallery import Exclusion, Gallery, GalleryEntry, SearchResult
from sonoseek.gallery.pseudonyms import pseudonym_problem
from sonoseek.reports import warnings


def answer(
    bundle: Bundle,
    gallery: Gallery | None,
    views: Sequence[EncodedScan],
    options: SearchOptions,
    *,
    standing: Sequence[ReportWarning] = (),
) -> Report:
    """Search a gallery with some encoded scans, and assemble the report.

    Args:
        bundle: with the calibration to predict by.
        gallery: to search, or None. All of the report is of one state of it, whatever is written meanwhile.
        views: of one scan, or of several views; at least one.
        options: how it is searched and explained.
        standing: warnings of every report.

    Raises:
        InvalidValueError: no scan; a region outside the scan, or of several views.
        NotFoundError: a liked or disliked scan that is not in the gallery.
        WhereError: a filter that does not parse.
    """
    with nullcontext() if gallery is None else gallery.snapshot() as snapshot:
        return _answer(bundle, snapshot, views, options, standing=standing)


def _answer(
    bundle: Bundle,
    gallery: Gallery | None,
    views: Sequence[EncodedScan],
    options: SearchOptions,
    *,
    standing: Sequence[ReportWarning],
) -> Report:
    towards, away = _examples(gallery, options.liked), _examples(gallery, options.disliked)
    query = build_query(
        views,
        region=options.region,
        liked=[entry.embedding for entry in towards],
        disliked=[entry.embedding for entry in away],
    )
    prediction = _prediction(bundle, views)
    first, scan = views[0], views[0].scan
    state = None if gallery is None else gallery.state()
    own = _own(gallery, views)
    left_out = Exclusion() if options.include_same else own
    exclude = left_out | Exclusion(scan_ids=tuple(entry.scan_id for entry in away))
    result = _search(gallery, query, options=options, own=own, exclude=exclude, duplicates=bundle.duplicate_threshold)
    similar = count_similar(
        gallery,
        query,
        result.matches,
        options=options,
        own=own,
        exclude=exclude,
        duplicate_threshold=bundle.duplicate_threshold,
    )
    explained: list[list[Explanation]] = [[explain_class(bundle, r, prediction.likeliest)] for r in views]
    if options.explain_matches and gallery is not None:
        pairs, matches = _explain_matches(gallery, query, result.matches)
        explained = [mine + others for mine, others in zip(explained, pairs, strict=True)]
        result = replace(result, matches=matches)
    report = Report(
        scan=scan,
        prediction=prediction,
        matches=result.matches,
        explanations=tuple(explained[0]),
        similar_cases=similar.labels,
        hidden=similar.hidden,
        left_out=None if gallery is None else gallery.count_excluded(left_out),
        novelty=result.novelty,
        warnings=(),
        bundle_id=bundle.bundle_id,
        gallery_id=None if gallery is None else gallery.gallery_id,
        gallery_state=state,
        where=options.where,
        views=tuple(
            View(scan=view.scan, prediction=view.prediction, explanations=tuple(explanations), lesion=view.lesion)
            for view, explanations in zip(views[1:], explained[1:], strict=True)
        ),
        region=options.region,
        crop=first.crop,
        lesion=first.lesion,
        liked=tuple(entry.scan_id for entry in towards),
        disliked=tuple(entry.scan_id for entry in away),
        shared_descriptors=shared_descriptors(result.matches, gallery.descriptor_counts) if gallery is not None else (),
        contour=draw_contour(explained[0][0], spacing_mm=scan.spacing_mm),
        version=__version__,
        created=datetime.now(UTC),
    )
    raised = _warnings(
        report, gallery, views, query, similar, bundle=bundle, options=options, result=result, exclude=exclude
    )
    return replace(report, warnings=warnings.ranked([*raised, *standing]))


def _warnings(
    report: Report,
    gallery: Gallery | None,
    views: Sequence[EncodedScan],
    query: QueryVector,
    similar: SimilarCases,
    *,
    bundle: Bundle,
    options: SearchOptions,
    result: SearchResult,
    exclude: Exclusion,
) -> list[ReportWarning]:
    first = views[0]
    preprocessed = first.preprocessed
    raised = [
        *warnings.scan_warnings(
            first.scan,
            marks=first.marks,
            preprocessing=() if preprocessed is None else preprocessed.warnings,
            crop=first.crop,
            seen=any(_seen(bundle, view.scan) for view in views) or _copy_seen(bundle, similar),
        ),
        *warnings.prediction_warnings(report.prediction, abstain_below=bundle.abstain_below),
        *warnings.query_warnings(
            views=[view.prediction for view in views[1:]],
            first=first.prediction,
            marked=any(view.lesion is not None for view in views),
            region=options.region,
            examples=len(report.liked) + len(report.disliked),
            patients=len({view.scan.patient_id for view in views} - {None}),
            breasts=len({view.scan.laterality for view in views} - {None}),
        ),
    ]
    if gallery is None:
        return raised
    copy = similar.copy.similarity if similar.copy is not None and query.plain else None
    pictures = any(match.picture is not None for match in result.matches)  # they have decided
    nearest = None if pictures else result.nearest
    if copy is None and nearest is not None and 1.0 - nearest >= bundle.duplicate_threshold:
        copy = 1.0 - nearest
    if (problem := pseudonym_problem(gallery, [view.scan.patient_id for view in views])) is not None:
        raised.append(warnings.warning("pseudonyms", problem))
    scan_ids = [view.scan.scan_id for view in views]
    raised += warnings.copy_warnings(
        first.scan,
        report.matches if query.plain else (),
        copy=copy,
        archived=bool(gallery.entries(scan_ids=scan_ids, pictures=False, evidence=False)),
        left_out=not options.include_same,
    )
    raised += warnings.match_list_warnings(
        report.matches,
        k=options.k,
        filtered=options.where is not None,
        independent=options.independent,
        why_none=explain_no_matches(gallery, where=options.where, exclusion=exclude, k=options.k)
        if not report.matches
        else None,
    )
    raised += warnings.archive_warnings(
        report.prediction,
        similar.labels,
        novelty=report.novelty,
        left_out=report.left_out,
        dominant=similar.dominant,
    )
    return raised


def _seen(bundle: Bundle, scan: Scan) -> bool:
    """Whether a scan, or a copy of it, was in the training data; False where the bundle does not know."""
    return bundle.training_scans is not None and bundle.training_scans.find(scan) is not None


def _copy_seen(bundle: Bundle, similar: SimilarCases) -> bool:
    """Whether the archived scan that this one is a copy of was in the training data: found also where it is turned."""
    known = bundle.training_scans
    return known is not None and similar.copy is not None and known.holds(similar.copy.scan_id)


def explain_class(bundle: Bundle, view: EncodedScan, target: str) -> Explanation:
    """The exact heatmap of one class's logit."""
    index = bundle.classes.index(target)
    return class_evidence(
        view.evidence,
        weight=bundle.head_weight[index],
        bias=float(bundle.head_bias[index]),
        mapping=view.mapping,
        target=target,
        spatial_weights=view.spatial_weights,
    )


def _prediction(bundle: Bundle, views: Sequence[EncodedScan]) -> Prediction:
    """Of one scan its own; of several views that of their mean logits, with the highest ood_score among them."""
    if len(views) == 1:
        return views[0].prediction
    farthest = max(views, key=lambda view: view.prediction.ood_score or 0.0)
    logits = np.asarray(np.mean([view.logits for view in views], axis=0, dtype=np.float64), np.float32)
    return predict(bundle, logits, embedding=farthest.embedding)


def required(gallery: Gallery | None, what: str) -> Gallery:
    """The gallery, which something is named of.

    Raises:
        InvalidValueError: none is open.
    """
    if gallery is None:
        raise InvalidValueError(f"{what} is named, and no gallery is open; open the engine with one.")
    return gallery


def _examples(gallery: Gallery | None, names: tuple[str, ...]) -> list[GalleryEntry]:
    """Entries that are named by scan_id, or as dataset/case_id, in the order named."""
    examples: dict[tuple[str, str, str], GalleryEntry] = {}
    for name in names:
        archive = required(gallery, f"the scan {name!r}")
        dataset, slash, case_id = name.partition("/")
        entries = archive.entries(
            scan_ids=() if slash else [name],
            cases=[(dataset, case_id)] if slash else (),
            pictures=False,
            evidence=False,
        )
        if not entries:
            raise NotFoundError(
                f"the gallery {archive.location} holds no {'case' if slash else 'scan'} {name!r}; name a match by "
                "its scan_id, or as DATASET/CASE."
            )
        examples.update({(entry.record.dataset, entry.record.case_id, entry.scan_id): entry for entry in entries})
    return list(examples.values())


def _own(gallery: Gallery | None, views: Sequence[EncodedScan]) -> Exclusion:
    """The scans themselves, their patients and groups, and the patients that they name, in whichever dataset."""
    exclusion = Exclusion()
    if gallery is not None:
        for view in views:
            exclusion |= gallery.exclusion_for(view.scan.scan_id, patient_id=view.scan.patient_id)
    return exclusion


def _search(
    gallery: Gallery | None,
    query: QueryVector,
    *,
    options: SearchOptions,
    own: Exclusion,
    exclude: Exclusion,
    duplicates: float,
) -> SearchResult:
    if gallery is None:
        return SearchResult(matches=())
    if not query.embedding.any():  # no direction, so no cosine with anything
        return SearchResult(matches=(), novelty=100.0)
    result = gallery.search(
        query.embedding if not query.plain else query.views[0].embedding,
        k=options.k,
        where=options.where,
        exclude=exclude or None,
        novelty=query.plain,
        per_patient=options.per_patient,
        duplicate_threshold=duplicates if options.deduplicate else None,
    )
    whole = query.views[0].embedding
    if (query.plain and not options.include_same) or not whole.any():
        return result
    # Novelty is measured on whole scans, and on other patients.
    usual = gallery.search(whole, k=0, exclude=own or None)
    return replace(result, nearest=usual.nearest, novelty=usual.novelty)


def _explain_matches(
    gallery: Gallery, query: QueryVector, matches: tuple[Match, ...]
) -> tuple[list[list[Explanation]], tuple[Match, ...]]:
    """Each match's cosine on each view's pixels; and the matches, each with it on their own."""
    pairs: list[list[Explanation]] = [[] for _ in query.views]
    if not matches:
        return pairs, matches
    entries = gallery.entries(scan_ids=[match.scan_id for match in matches], pictures=False)
    by_key = {(entry.record.dataset, entry.record.case_id, entry.scan_id): entry for entry in entries}
    explained = []
    for match in matches:
        entry = by_key.get((match.dataset, match.case_id, match.scan_id))
        if entry is None:  # another process has removed it since the search
            explained.append(match)
            continue
        for number, of_view in enumerate(pairs):
            of_view.append(query.explain(number, entry.embedding, target=f"match:{entry.scan_id}"))
        explained.append(replace(match, explanation=_on_the_match(query, entry)))
    return pairs, tuple(explained)


def _on_the_match(query: QueryVector, entry: GalleryEntry) -> Explanation | None:
    """The cosine on the match's pixels, from the stored evidence; None where the gallery stores none."""
    if entry.evidence is None:
        return None
    unpacked = unpack_evidence(
        entry.evidence, embedding=entry.embedding, scan_shape=entry.scan_shape, spacing_mm=entry.spacing_mm
    )
    first = query.views[0]
    return pair_evidence(
        unpacked.evidence,
        first.embedding if query.plain else query.embedding,
        mapping=unpacked.mapping,
        target=f"query:{first.scan.scan_id}",
        spatial_weights=unpacked.spatial_weights,
        embedding=entry.embedding,
    )
