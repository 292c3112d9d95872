"""All of a report is of one state of the gallery, whoever writes into it while the query runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sonoseek.core import Report, Scan
from sonoseek.engine import SearchEngine
from sonoseek.gallery import Gallery, open_gallery
from sonoseek.indexing.build import make_entry

MakeScan = Callable[..., Scan]
STEPS = ("build_query", "count_similar", "_search", "_explain_matches", "shared_descriptors", "_warnings")
"""Of the answer: a writer comes before each of them."""


def facts(report: Report) -> tuple[object, ...]:
    """What a report says of the gallery."""
    return (
        report.matches,
        report.similar_cases,
        report.hidden,
        report.left_out,
        report.novelty,
        report.gallery_state,
        report.shared_descriptors,
        [(warning.code, warning.text) for warning in report.warnings],
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("by", ["another process", "another thread"])
def test_a_writer_in_between_changes_nothing(
    encoder: Any, gallery: Gallery, dataset: Any, make_scan: MakeScan, step: str, by: str, monkeypatch: Any
) -> None:
    query = dataset.load("case 006").scans[0]
    options: dict[str, Any] = {"k": 8, "where": "birads >= '2'", "per_patient": False}
    with open_gallery(gallery.location) as reader:
        engine = SearchEngine(encoder, reader if by == "another process" else gallery)
        before = facts(engine.query(query, **options))
        record = replace(dataset.records()[0], case_id="near", patient_id="new", group="new")
        same = replace(dataset.records()[6], case_id="same patient", patient_id="p3", group="new 2")

        original = getattr(__import__("sonoseek.engine.answer", fromlist=[step]), step)
        written: list[int] = []

        def write_first(*args: Any, **kwargs: Any) -> Any:
            if not written:
                near = make_scan(6, shape=query.shape)
                written.append(
                    gallery.add(
                        [
                            make_entry(replace(near, pixels=near.pixels ^ 1), record, encoder),
                            make_entry(make_scan(900), same, encoder),
                        ]
                    ).added
                )
                gallery.remove(cases=[("fake", "case 020")])
            return original(*args, **kwargs)

        monkeypatch.setattr(f"sonoseek.engine.answer.{step}", write_first)
        during = facts(engine.query(query, **options))
        assert written == [2]
        assert during == before
        after = facts(engine.query(query, **options))
        assert after[3] != before[3]
        assert after[5] != before[5]


def test_a_gallery_without_snapshots_still_answers(encoder: Any, gallery: Gallery, make_scan: MakeScan) -> None:
    class Server(type(gallery)):  # type: ignore[misc]
        snapshot = Gallery.snapshot  # as Milvus, which has no transaction over several requests

    with Server.open(gallery.location) as opened:
        report = SearchEngine(encoder, opened).query(make_scan(500))
    assert len(report.matches) == 10


def test_the_connections_are_given_back_after_an_error(encoder: Any, gallery: Gallery, make_scan: MakeScan) -> None:
    engine = SearchEngine(encoder, gallery)
    for _ in range(3):
        with pytest.raises(LookupError):
            engine.query(make_scan(500), liked=["nothing/there"])
    assert len(engine.query(make_scan(500)).matches) == 10
