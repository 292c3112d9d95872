"""An archive of one's own, indexed again after its table was corrected."""

from pathlib import Path

import numpy as np

from sonoseek import open_gallery


def write(table: Path, archive: Path, *, spacing: str) -> None:
    files = sorted(f for f in archive.glob("*/*.png") if "_mask" not in f.name)[:4]
    rows = [f"{file},{file.parent.name},mine,{spacing}" for file in files]
    table.write_text("\n".join(["file,pathology,dataset,spacing_mm", *rows]) + "\n", encoding="utf-8")


def embeddings(gallery: Path) -> dict[str, np.ndarray]:
    with open_gallery(gallery) as opened:
        return {entry.record.case_id: entry.embedding for entry in opened}


def test_a_corrected_spacing_is_encoded_anew(run, archive: Path, tmp_path: Path) -> None:
    table, options = tmp_path / "archive.csv", ("index", "build", "--dataset", "manifest", "--data")
    write(table, archive, spacing="")
    run(*options, table, "--gallery", tmp_path / "g")
    write(table, archive, spacing="0.05x0.1")
    assert "4 updated" in run(*options, table, "--gallery", tmp_path / "g").stdout
    run(*options, table, "--gallery", tmp_path / "fresh")
    again, fresh = embeddings(tmp_path / "g"), embeddings(tmp_path / "fresh")
    for case_id, embedding in fresh.items():
        np.testing.assert_allclose(again[case_id], embedding, rtol=1e-2, atol=1e-2 * np.abs(embedding).max())


def test_rows_under_an_archives_own_name_are_known_again(run, archive: Path, tmp_path: Path, monkeypatch) -> None:
    from sonoseek.datasets import open_dataset
    from sonoseek.encoder import open_encoder
    from sonoseek.gallery import open_gallery as reopen
    from sonoseek.indexing.build import build_index

    table = tmp_path / "archive.csv"
    write(table, archive, spacing="")
    run("index", "build", "--dataset", "manifest", "--data", table, "--gallery", tmp_path / "g")
    dataset = open_dataset("manifest", table)
    monkeypatch.setattr(dataset, "load", lambda *_, **__: (_ for _ in ()).throw(AssertionError("was read again")))
    with reopen(tmp_path / "g", mode="w") as gallery:
        result = build_index(dataset, gallery, open_encoder(threads=1))
    assert (result.unchanged, result.refused) == (4, ())
