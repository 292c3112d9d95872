import fake_datasets
import pytest

from sonoseek.datasets import check_dataset, open_dataset


def test_it_names_what_is_wrong_and_goes_on(make_fake):
    root = make_fake("busi")
    folder = root / "Dataset_BUSI_with_GT"
    (folder / "benign/benign (1).png").write_bytes(b"broken")
    (folder / "malignant/malignant (1)_mask.png").unlink()
    fake_datasets.save(fake_datasets.lesion() * 0, folder / "malignant/malignant (2)_mask.png")
    steps = []
    result = check_dataset(open_dataset("busi", root), on_progress=lambda *step: steps.append(step))
    assert result.cases == 10
    assert result.classes == {"benign": 5, "malignant": 3, "normal": 2}
    assert list(result.refused) == ["benign (1)"]
    assert "benign (1).png" in result.refused["benign (1)"]
    assert list(result.repeated.values()) == [("benign (433)", "malignant (145)")]
    assert result.without_mask == ("malignant (1)", "malignant (2)")
    assert steps[-1] == (10, 10)


def test_known_defects_of_the_release_are_told(fake_roots):
    result = check_dataset(open_dataset("bus-uclm", fake_roots["bus-uclm"]))
    assert list(result.known) == list(result.refused) == ["HESN_002"]


@pytest.mark.parametrize(("held", "said"), [(30, True), (16, True), (15, False)])
def test_one_patient_over_half_of_an_archive_is_counted(tmp_path, held, said):
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "a.png")
    rows = [("a.png", "benign", "A17" if n < held else f"p{n}", str(n)) for n in range(30)]
    path = fake_datasets.write_csv(tmp_path / "list.csv", [("file", "pathology", "patient", "case_id"), *rows])
    (share,) = check_dataset(open_dataset("manifest", path)).largest_patients
    assert (share.dataset, share.patient_id, share.cases, share.total) == ("manifest", "A17", held, 30)
    assert share.dominant is said


def test_a_placeholder_in_dicom_files_and_in_a_table_is_counted(tmp_path):
    (tmp_path / "benign").mkdir()
    for number, patient in enumerate(["ANONYMOUS", "ANONYMOUS", "0", "MRN 1", ""]):
        path = tmp_path / "benign" / f"{number}.dcm"
        fake_datasets.save_dicom(path, [fake_datasets.picture(number)], patient=patient)
    result = check_dataset(open_dataset("folder", tmp_path))
    assert result.placeholders == {"ANONYMOUS": 2, "0": 1}
    (share,) = result.largest_patients
    assert (share.patient_id[:2], share.cases, share.total) == ("k-", 1, 5)
    rows = [("file", "pathology", "patient"), ("benign/0.dcm", "benign", "p-7"), ("benign/3.dcm", "benign", "UNNAMED")]
    table = fake_datasets.write_csv(tmp_path / "list.csv", rows)
    assert check_dataset(open_dataset("manifest", table)).placeholders == {}


@pytest.mark.data
@pytest.mark.parametrize("name", ["busi", "busbra"])
def test_the_real_datasets_load_to_the_last_case(real_data, name):
    result = check_dataset(open_dataset(name, real_data / name))
    assert not result.refused
    assert not result.without_mask
    repeated = {frozenset(ids) for ids in result.repeated.values()}
    if name == "busi":
        assert any({"benign (433)", "malignant (145)"} <= ids for ids in repeated)
