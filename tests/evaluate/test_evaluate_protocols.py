"""One contract over every protocol of the table, on small pictures in the datasets' true layout; and on real scans."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoseek.core import InvalidValueError, NotFoundError, SplitError
from sonoseek.datasets import Subset, open_dataset
from sonoseek.datasets.bus_uc import known_groups as known_uc_groups
from sonoseek.datasets.busi import known_groups
from sonoseek.evaluate import PROTOCOLS, open_context
from sonoseek.evaluate.leakage import check_round, number_groups
from sonoseek.evaluate.protocols import VALIDATION, true_records
from sonoseek.evaluate.protocols.augmented import WAYS, AugmentedDataset, Way, alter
from sonoseek.evaluate.protocols.external import External

EVERY_NTH = {"benign": 9, "malignant": 5, "normal": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of BUSI's and BUS_UC's file names, and 60 patients of BUS-BRA, each with a random picture."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def draw(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24), dtype=np.uint8)).save(path)

    for name in known_groups():
        pathology, number = name.split(" (")
        if int(number.split(")")[0]) % EVERY_NTH[pathology] == 0:
            draw(root / "busi" / "Dataset_BUSI_with_GT" / pathology / name)
    for case_id in known_uc_groups():
        pathology, number = case_id.split("-")
        if int(number) % 3 == 0:
            draw(root / "bus_uc" / "BUS_UC" / pathology.capitalize() / "images" / f"{number}.png")
    folder = root / "busbra" / "BUSBRA"
    rows, folds = [], {5: [], 10: []}
    for patient in range(1, 61):
        for side in ("left", "right"):
            name = f"bus_{patient:04d}-{side[0]}"
            draw(folder / "Images" / f"{name}.png")
            draw(folder / "Masks" / f"mask_{name[4:]}.png")
            kind = "malignant" if patient % 3 == 0 else "benign"
            rows.append((name, patient, "x", kind, 4, "GE Logiq 7 @10-14MHz", 24, 24, side, "[1,1,5,5]"))
            for count, lines in folds.items():
                lines.append((name, kind, patient % count + 1))
    tables = {
        "bus_data.csv": (
            ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX"),
            rows,
        )
    }
    tables |= {f"{count}-fold-cv.csv": (("ID", "Pathology", "kFold"), lines) for count, lines in folds.items()}
    for name, (head, lines) in tables.items():
        with (folder / name).open("w", newline="") as stream:
            csv.writer(stream).writerows([head, *lines])
    return root


def keys(side: dict[str, tuple[str, ...]]) -> set[tuple[str, str]]:
    return {(name, case_id) for name, ids in side.items() for case_id in ids}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_keeps_the_contract(name: str, data: Path) -> None:
    protocol = PROTOCOLS.load(name)()
    assert protocol.description.endswith((".", "that does."))
    assert protocol.title
    assert protocol.exclusions
    datasets = protocol.open(data)
    rounds = protocol.rounds(datasets)
    assert [r.digest for r in rounds] == [r.digest for r in protocol.rounds(protocol.open(data))]
    assert len({r.label for r in rounds}) == len(rounds)
    for round_ in rounds:
        train, validation, test = keys(round_.train), keys(round_.validation), keys(round_.test)
        assert train
        assert validation
        assert test
        assert not train & validation
        assert not (train | validation) & test
        assert keys(round_.gallery) == train | validation
        assert len(validation) / len(train | validation) == pytest.approx(VALIDATION, abs=0.06)
    if name not in ("external", "paper-like"):
        for seed in {r.seed for r in rounds}:
            tested = [key for r in rounds if r.seed == seed for key in keys(r.test)]
            assert len(tested) == len(set(tested)) == sum(len(d.records()) for d in datasets.values())
    if protocol.guarded:
        for round_ in rounds:
            check_round(round_, datasets=datasets, groups=number_groups(datasets), pairs=())
    else:
        parted = 0
        for round_ in rounds:
            try:
                check_round(round_, datasets=datasets, groups=number_groups(datasets), pairs=())
            except SplitError:
                parted += 1
        assert parted == len(rounds)


def test_the_protocols_on_busi_leave_out_what_they_say(data: Path) -> None:
    facts = {name.removesuffix(".png"): known for name, known in known_groups().items()}
    every = {r.case_id for r in open_dataset("busi", data / "busi").records()}
    clean = {r.case_id for r in PROTOCOLS.load("busi-clean")().open(data)["busi"].records()}
    bad = {i for i in every if facts[i].cross_class or facts[i].objection in ("axilla", "needle")}
    assert bad
    assert clean == every - bad
    curated = {r.case_id for r in PROTOCOLS.load("busi-curated")().open(data)["busi"].records()}
    assert 0 < len(curated) < len(every)


def test_growing_keeps_every_scan_and_hides_where_the_others_come_from(data: Path) -> None:
    base = Subset(open_dataset("busi", data / "busi"), ["benign (9)", "benign (18)"])
    grown = AugmentedDataset(base, count=5, seed=0)
    assert [r.case_id for r in grown.records()] == [
        "benign (9)",
        "benign (18)",
        "benign (9) #1",
        "benign (18) #1",
        "benign (9) #2",
    ]
    assert {r.group for r in grown.records()} == {None}
    true = {r.case_id: r.group for r in true_records(grown)}
    assert true["benign (9)"] == true["benign (9) #1"] == true["benign (9) #2"] != true["benign (18)"]
    assert grown.load("benign (9)").scans[0] == base.load("benign (9)").scans[0]
    one, again, two = (grown.load(name).scans[0] for name in ("benign (9) #1", "benign (9) #1", "benign (9) #2"))
    assert one == again
    assert one != two
    assert len({grown.fingerprint(r.case_id) for r in grown.records()}) == 5
    with pytest.raises(InvalidValueError, match="count is 1"):
        AugmentedDataset(base, count=1, seed=0)


@pytest.mark.parametrize("way", WAYS)
def test_altering_keeps_the_picture_recognisable(way: Way) -> None:
    picture = np.full((60, 80), 40, np.uint8)
    picture[10:25, 15:40] = 200
    altered = alter(picture, way, rng=np.random.default_rng(1))
    assert altered.shape == (60, 80)
    assert altered.dtype == np.uint8
    assert not np.array_equal(altered, picture)
    back = {"mirror": altered[:, ::-1], "flip": altered[::-1]}.get(way, altered)
    assert np.corrcoef(back.ravel(), picture.ravel())[0, 1] > 0.5


def test_each_hospital_is_left_out_once_and_gives_nothing_to_its_own_round(data: Path) -> None:
    protocol = PROTOCOLS.load("leave-one-hospital-out")()
    datasets = protocol.open(data)
    rounds = protocol.rounds(datasets)
    assert [(r.seed, *r.test) for r in rounds] == [(s, n) for s in range(3) for n in ("busi", "busbra", "bus-uc")]
    for round_ in rounds:
        (left_out,) = round_.test
        assert set(round_.train) == set(round_.validation) == set(datasets) - {left_out}
        for name, ids in round_.validation.items():  # of each hospital and class its share
            kinds = {r.case_id: r.pathology for r in datasets[name].records()}
            for kind in set(kinds.values()):
                share = sum(kinds[i] == kind for i in ids) / sum(k == kind for k in kinds.values())
                assert share == pytest.approx(VALIDATION, abs=0.08), (name, kind)
    validations = {r.seed: r.validation["busbra"] for r in rounds if "busbra" in r.validation}
    assert len(set(validations.values())) == 3  # seeds cut it otherwise


def test_the_sides_of_an_external_test_are_checked(data: Path) -> None:
    with pytest.raises(InvalidValueError, match="trained on and tested on"):
        External(train_on=("busi",), test_on="busi")
    with pytest.raises(NotFoundError, match="no dataset is called 'bussi'"):
        External(train_on=("bussi",))
    assert External().name == "external-busi-to-busbra"
    alone = External(train_on=(), test_on="busbra")
    (round_,) = alone.rounds(alone.open(data))
    assert not round_.train
    assert len(round_.test["busbra"]) == 120
    named = External(test_on="busbra", paths={"busbra": data / "busbra", "busi": data / "busi"})
    assert set(named.open(None)) == {"busi", "busbra"}


def test_unknown_protocols_say_what_there_is() -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'busi-grouped'"):
        PROTOCOLS.load("busi-groupd")


@pytest.mark.data
def test_real_scans_are_cut_as_published(real_data: Path, tmp_path: Path) -> None:
    sizes = {"busi-grouped": 780, "busi-clean": 682, "busi-curated": 450, "busbra-official": 1875}
    sizes["leave-one-hospital-out"] = 780 + 1875 + 802
    for name, size in sizes.items():
        protocol = PROTOCOLS.load(name)()
        datasets = protocol.open(real_data)
        assert sum(len(d.records()) for d in datasets.values()) == size
        for round_ in protocol.rounds(datasets):
            check_round(round_, datasets=datasets, groups=number_groups(datasets), pairs=())
    grown = PROTOCOLS.load("paper-like")()
    (round_,) = grown.rounds(grown.open(real_data))
    assert [len(side["busi"]) for side in (round_.train, round_.validation, round_.test)] == [2688, 576, 576]
    context = open_context(grown, data_root=real_data, cache=tmp_path)
    assert context.leaking["seed-0/fold-0"] == 1.0
    blind = open_context(PROTOCOLS.load("random-split")(), data_root=real_data, cache=tmp_path)
    assert 0.3 < np.mean(list(blind.leaking.values())) < 0.5
