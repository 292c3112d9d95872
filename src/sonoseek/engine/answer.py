"""From readings to a Report: the query that they make, what the gallery finds, and what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

import sonoseek
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
from sonoseek.encoder import Bundle, predict, unpack_evidence
from sonoseek.engine.encoded_scan import EncodedScan
from sonoseek.engine.no_matches import explain_no_matches
from sonoseek.engine.query_vector import QueryVector, build_query
from sonoseek.engine.similar import SimilarCases, count_similar
from sonoseek.explain import class_evidence, draw_contour, pair_evidence, shared_descriptors
from sonoseek.gallery import Exclusion, Gallery, GalleryEntry, SearchResult
from sonoseek.reports import warnings


def answer(
    bundle: Bundle,
    gallery: Gallery | None,
    readings: Sequence[EncodedScan],
    options: SearchOptions,
    *,
    notes: Sequence[ReportWarning] = (),
) -> Report:
    """Search a gallery with some readings, and assemble the report.

    Args:
        bundle: with the calibration to predict by.
        gallery: to search, or None.
        readings: of one scan, or of several views; at least one.
        options: how it is searched and explained.
        notes: warnings that hold for every report.

    Raises:
        InvalidValueError: no reading; a region outside the scan, or of several views.
        NotFoundError: a liked or disliked scan that is not in the gallery.
        WhereError: a filter that does not parse.
    """
    towards, away = _examples(gallery, options.liked), _examples(gallery, options.disliked)
    question = build_query(
        readings,
        region=options.region,
        liked=[entry.embedding for entry in towards],
        disliked=[entry.embedding for entry in away],
    )
    prediction = _prediction(bundle, readings)
    first, scan = readings[0], readings[0].scan
    state = None if gallery is None else gallery.state()
    own = _own(gallery, readings)
    left_out = Exclusion() if options.include_same else own
    exclude = left_out | Exclusion(scan_ids=tuple(entry.scan_id for entry in away))
    found = _search(gallery, question, options=options, own=own, exclude=exclude, duplicates=bundle.duplicate_threshold)
    similar = count_similar(
        gallery,
        question,
        found.matches,
        options=options,
        own=own,
        exclude=exclude,
        duplicate_threshold=bundle.duplicate_threshold,
    )
    explained: list[list[Explanation]] = [[explain_class(bundle, r, prediction.likeliest)] for r in readings]
    if options.explain_matches and gallery is not None:
        pairs, matches = _explain_matches(gallery, question, found.matches)
        explained = [mine + others for mine, others in zip(explained, pairs, strict=True)]
        found = replace(found, matches=matches)
    report = Report(
        scan=scan,
        prediction=prediction,
        matches=found.matches,
        explanations=tuple(explained[0]),
        similar_cases=similar.labels,
        hidden=similar.hidden,
        left_out=None if gallery is None else gallery.count_excluded(left_out),
        novelty=found.novelty,
        warnings=(),
        bundle_id=bundle.bundle_id,
        gallery_id=None if gallery is None else gallery.gallery_id,
        gallery_state=state,
        where=options.where,
        views=tuple(
            View(scan=reading.scan, prediction=reading.prediction, explanations=tuple(told), lesion=reading.lesion)
            for reading, told in zip(readings[1:], explained[1:], strict=True)
        ),
        region=options.region,
        crop=first.crop,
        lesion=first.lesion,
        liked=tuple(entry.scan_id for entry in towards),
        disliked=tuple(entry.scan_id for entry in away),
        shared_descriptors=shared_descriptors(found.matches, gallery.words) if gallery is not None else (),
        contour=draw_contour(explained[0][0], spacing_mm=scan.spacing_mm),
        version=sonoseek.__version__,
        created=datetime.now(UTC),
    )
    told = _warnings(
        report, gallery, readings, question, similar, bundle=bundle, options=options, found=found, exclude=exclude
    )
    return replace(report, warnings=warnings.ranked([*told, *notes]))


def _warnings(
    report: Report,
    gallery: Gallery | None,
    readings: Sequence[EncodedScan],
    question: QueryVector,
    similar: SimilarCases,
    *,
    bundle: Bundle,
    options: SearchOptions,
    found: SearchResult,
    exclude: Exclusion,
) -> list[ReportWarning]:
    first = readings[0]
    preprocessed = first.preprocessed
    told = [
        *warnings.about_the_scan(
            first.scan,
            marks=first.marks,
            preprocessing=() if preprocessed is None else preprocessed.warnings,
            crop=first.crop,
            seen=any(_seen(bundle, reading.scan) for reading in readings) or _copy_seen(bundle, similar),
        ),
        *warnings.about_the_prediction(report.prediction, abstain_below=bundle.abstain_below),
        *warnings.about_the_query(
            views=[reading.prediction for reading in readings[1:]],
            first=first.prediction,
            marked=any(reading.lesion is not None for reading in readings),
            region=options.region,
            examples=len(report.liked) + len(report.disliked),
            patients=len({reading.scan.patient_id for reading in readings} - {None}),
            breasts=len({reading.scan.laterality for reading in readings} - {None}),
        ),
    ]
    if gallery is None:
        return told
    copy = similar.copy.similarity if similar.copy is not None and question.plain else None
    if copy is None and found.nearest is not None and 1.0 - found.nearest >= bundle.duplicate_threshold:
        copy = 1.0 - found.nearest
    scan_ids = [reading.scan.scan_id for reading in readings]
    told += warnings.about_copies(
        first.scan,
        report.matches if question.plain else (),
        copy=copy,
        held=bool(gallery.entries(scan_ids=scan_ids, pictures=False, evidence=False)),
        left_out=not options.include_same,
    )
    told += warnings.about_the_list(
        report.matches,
        k=options.k,
        filtered=options.where is not None,
        independent=options.independent,
        why_none=explain_no_matches(gallery, where=options.where, exclusion=exclude, k=options.k)
        if not report.matches
        else None,
    )
    told += warnings.about_the_archive(
        report.prediction,
        similar.labels,
        novelty=report.novelty,
        left_out=report.left_out,
        dominant=similar.dominant,
    )
    return told


def _seen(bundle: Bundle, scan: Scan) -> bool:
    """Whether a scan, or a copy of it, was in the training data; False where the bundle does not know."""
    return bundle.training_scans is not None and bundle.training_scans.find(scan) is not None


def _copy_seen(bundle: Bundle, similar: SimilarCases) -> bool:
    """Whether the archived scan that this one is a copy of was in the training data: found also where it is turned."""
    known = bundle.training_scans
    return known is not None and similar.copy is not None and known.holds(similar.copy.scan_id)


def explain_class(bundle: Bundle, reading: EncodedScan, target: str) -> Explanation:
    """The exact heatmap of one class's logit."""
    index = bundle.classes.index(target)
    return class_evidence(
        reading.evidence,
        weight=bundle.head_weight[index],
        bias=float(bundle.head_bias[index]),
        mapping=reading.mapping,
        target=target,
        within=reading.within,
    )


def _prediction(bundle: Bundle, readings: Sequence[EncodedScan]) -> Prediction:
    """Of one scan its own; of several views that of their mean logits, with the highest ood_score among them."""
    if len(readings) == 1:
        return readings[0].prediction
    farthest = max(readings, key=lambda reading: reading.prediction.ood_score or 0.0)
    logits = np.asarray(np.mean([reading.logits for reading in readings], axis=0, dtype=np.float64), np.float32)
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
    found: dict[tuple[str, str, str], GalleryEntry] = {}
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
        found.update({(entry.record.dataset, entry.record.case_id, entry.scan_id): entry for entry in entries})
    return list(found.values())


def _own(gallery: Gallery | None, readings: Sequence[EncodedScan]) -> Exclusion:
    """The scans themselves, their patients and groups, and the patients that they name, in whichever dataset."""
    found = Exclusion()
    if gallery is not None:
        for reading in readings:
            found |= gallery.exclusion_for(reading.scan.scan_id, patient_id=reading.scan.patient_id)
    return found


def _search(
    gallery: Gallery | None,
    question: QueryVector,
    *,
    options: SearchOptions,
    own: Exclusion,
    exclude: Exclusion,
    duplicates: float,
) -> SearchResult:
    if gallery is None:
        return SearchResult(matches=())
    if not question.embedding.any():  # no direction, so no cosine with anything
        return SearchResult(matches=(), novelty=100.0)
    found = gallery.search(
        question.embedding if not question.plain else question.readings[0].embedding,
        k=options.k,
        where=options.where,
        exclude=exclude or None,
        novelty=question.plain,
        per_patient=options.per_patient,
        duplicate_threshold=duplicates if options.deduplicate else None,
    )
    whole = question.readings[0].embedding
    if (question.plain and not options.include_same) or not whole.any():
        return found
    # How unusual a scan is, is measured on whole scans, and on other patients.
    usual = gallery.search(whole, k=0, exclude=own or None)
    return replace(found, nearest=usual.nearest, novelty=usual.novelty)


def _explain_matches(
    gallery: Gallery, question: QueryVector, matches: tuple[Match, ...]
) -> tuple[list[list[Explanation]], tuple[Match, ...]]:
    """Each match's cosine on each view's pixels; and the matches, each with it on their own."""
    pairs: list[list[Explanation]] = [[] for _ in question.readings]
    if not matches:
        return pairs, matches
    entries = gallery.entries(scan_ids=[match.scan_id for match in matches], pictures=False)
    kept = {(entry.record.dataset, entry.record.case_id, entry.scan_id): entry for entry in entries}
    explained = []
    for match in matches:
        entry = kept.get((match.dataset, match.case_id, match.scan_id))
        if entry is None:  # another process has removed it since the search
            explained.append(match)
            continue
        for view, told in enumerate(pairs):
            told.append(question.explain(view, entry.embedding, target=f"match:{entry.scan_id}"))
        explained.append(replace(match, explanation=_on_the_match(question, entry)))
    return pairs, tuple(explained)


def _on_the_match(question: QueryVector, entry: GalleryEntry) -> Explanation | None:
    """The cosine of question and match on the match's pixels, from what the gallery keeps; None where it kept none."""
    if entry.evidence is None:
        return None
    kept = unpack_evidence(
        entry.evidence, embedding=entry.embedding, scan_shape=entry.scan_shape, spacing_mm=entry.spacing_mm
    )
    first = question.readings[0]
    return pair_evidence(
        kept.evidence,
        first.embedding if question.plain else question.embedding,
        mapping=kept.mapping,
        target=f"query:{first.scan.scan_id}",
        within=kept.spatial_weights,
        embedding=entry.embedding,
    )
