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


@pytest.mark.data
@pytest.mark.parametrize("name", ["busi", "busbra"])
def test_the_real_datasets_load_to_the_last_case(real_data, name):
    result = check_dataset(open_dataset(name, real_data / name))
    assert not result.refused
    assert not result.without_mask
    repeated = {frozenset(ids) for ids in result.repeated.values()}
    if name == "busi":
        assert any({"benign (433)", "malignant (145)"} <= ids for ids in repeated)
