"""Another hospital: learn from some datasets, freeze, test on one that was never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sonoseek.core import InvalidValueError, NotFoundError
from sonoseek.datasets import DATASETS, Dataset, inner_validation, open_dataset
from sonoseek.evaluate.protocols.base import VALIDATION, Round


class External:
    """All of some datasets against all of another; figures per patient too where patients are known.

    Attributes:
        options: of the command line that choose these sides, without paths.
    """

    guarded = True
    drops_near_duplicates = True
    drops_seen = True
    """Test scans that a finished bundle has learnt from are dropped, whatever they are called."""

    def __init__(
        self, *, train_on: Sequence[str] = ("busi",), test_on: str = "busbra", paths: Mapping[str, Path] | None = None
    ) -> None:
        """Choose the sides.

        Args:
            train_on: datasets to learn from, and to retrieve from; none where a finished bundle is tested whose
                training data is not available.
            test_on: dataset to test on.
            paths: where a dataset lies; for others: in the data folder under its name.

        Raises:
            NotFoundError: an unknown dataset.
            InvalidValueError: the test dataset is trained on.
        """
        for name in (*train_on, test_on):
            if name not in DATASETS:
                raise NotFoundError(f"no dataset is called {name!r}; there are: {', '.join(DATASETS)}.")
        if test_on in train_on:
            raise InvalidValueError(
                f"{test_on!r} is to be trained on and tested on; an external test is of a hospital that was not seen. "
                "Take it out of --train-on."
            )
        self._train_on, self._test_on, self._paths = tuple(train_on), test_on, dict(paths or {})
        source = "-".join(self._train_on) or "bundle"
        learnt_from = ("--train-on", ",".join(self._train_on)) if self._train_on else ()
        self.options = (*learnt_from, "--test-on", test_on)
        self.name = f"external-{source}-to-{test_on}"
        learnt = " and ".join(self._train_on) or "what the bundle names"
        self.title = f"{learnt} → {test_on}"
        self.description = f"Another hospital: learnt from {learnt}, frozen, tested on all of {test_on}."
        self.exclusions = (
            "near-duplicates of a test scan on the training side; test scans that a finished bundle has learnt from; "
            f"cases of {test_on} whose class the training side lacks are reported apart"
        )

    def open(self, data_root: Path | None) -> Mapping[str, Dataset]:
        """All of them."""
        return {name: open_dataset(name, self._where(name, data_root)) for name in (*self._train_on, self._test_on)}

    def _where(self, name: str, data_root: Path | None) -> Path | None:
        return self._paths.get(name, None if data_root is None else data_root / name)

    def rounds(self, datasets: Mapping[str, Dataset]) -> tuple[Round, ...]:
        """One: each training dataset gives an eighth of its groups to validation."""
        train, validation = {}, {}
        for name in self._train_on:
            records = datasets[name].records()
            inner = inner_validation(records, [r.case_id for r in records], fraction=VALIDATION, seed=0)
            train[name], validation[name] = inner.train, inner.test
        test = {self._test_on: tuple(r.case_id for r in datasets[self._test_on].records())}
        return (Round(seed=0, fold=0, train=train, validation=validation, test=test),)
