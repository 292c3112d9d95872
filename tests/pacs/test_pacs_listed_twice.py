"""Archives that list a thing twice, or one instance in two studies: each object is imported once, for one patient."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from scps import FakeArchive, running
from studies import datasets, make_studies

from sonoseek.pacs.archive import ImportFolder, StudyQuery, open_archive
from sonoseek.pacs.importing import FetchedArchive, fetch_archive


class Repeating(FakeArchive):
    def on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        for answer in super().on_find(event):
            yield answer
            yield answer


def _fetch(archive: FakeArchive, folder: ImportFolder) -> FetchedArchive:
    with running(archive) as peer, open_archive(peer, by="get", drafts=folder.drafts) as client:
        return fetch_archive(client, StudyQuery(), folder)


def test_what_is_listed_twice_is_counted_once(tmp_path: Path) -> None:
    studies = make_studies(2)
    pictures = sum(len(study.sides) for study in studies)
    with ImportFolder(tmp_path / "import") as folder:
        first = _fetch(Repeating(list(datasets(studies))), folder)
        assert (first.added, first.present, first.refused) == (pictures, 0, {})
        second = _fetch(Repeating(list(datasets(studies))), folder)
        assert (second.series, second.added, second.present) == (first.series, 0, pictures)


@pytest.mark.parametrize("again", [False, True])
def test_an_instance_of_two_studies_stays_in_the_first_and_the_other_is_named(tmp_path: Path, again: bool) -> None:
    (original, *_) = datasets(make_studies(1))
    other = deepcopy(original)
    other.StudyInstanceUID, other.SeriesInstanceUID, other.PatientID = generate_uid(), generate_uid(), "another"
    archive = FakeArchive([original])
    with ImportFolder(tmp_path / "import") as folder:
        _fetch(archive, folder)
        archive.datasets = [original, other]
        fetched = [_fetch(archive, folder) for _ in range(1 + again)][-1]
        assert (fetched.added, fetched.present) == (0, 1)
        assert "an object of study" in fetched.refused[original.SOPInstanceUID]
        (entry,) = folder.all()
        assert (entry.study_uid, entry.patient_id) == (original.StudyInstanceUID, original.PatientID)
