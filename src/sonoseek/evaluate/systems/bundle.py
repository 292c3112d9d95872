"""Bundles as systems: the network that serves, through the engine that serves."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, NotFoundError, ResultsError, SplitError
from sonoseek.core.arrays import unit_rows
from sonoseek.core.cores import available_cores
from sonoseek.encoder import Bundle, is_bundle, load_bundle, open_encoder
from sonoseek.engine import SearchEngine
from sonoseek.evaluate.protocols.base import OWN_ARCHIVES, Round
from sonoseek.evaluate.rows import Search
from sonoseek.evaluate.systems.base import Fitted, LabelledScan, Predictions, Progress, Task, Thresholds
from sonoseek.gallery import GalleryEntry, create_gallery, encode_picture

CHECKED = 20
"""Queries per round that are searched in a real gallery as well."""
ROUNDING = 3e-3
"""Of a cosine, by the half precision in which a gallery keeps embeddings."""


class FittedBundle:
    """A bundle as a fitted system: preprocessing, network and temperature of `SearchEngine.read`, as for any user."""

    def __init__(self, bundle: Bundle, *, own_thresholds: bool = False) -> None:
        """Open its network.

        Args:
            bundle: whose network.
            own_thresholds: take the bundle's, fitted by its maker, because there is no validation side here.
        """
        self.bundle = bundle
        self.identity = bundle.bundle_id
        self._own = own_thresholds
        self.encoder = open_encoder(bundle, threads=1)  # threads share it, one scan each
        self._engine = SearchEngine(self.encoder)

    @property
    def thresholds(self) -> Thresholds | None:
        """The bundle's own, where they are to be taken."""
        if not self._own:
            return None
        points = self.bundle.operating_points
        return Thresholds(
            abstain_below=self.bundle.abstain_below,
            conformal_quantile=self.bundle.conformal_quantile,
            sensitivity_90=points.get("sensitivity_90", {}).get("threshold", float("nan")),
            specificity_90=points.get("specificity_90", {}).get("threshold", float("nan")),
        )

    def predict(self, samples: Sequence[LabelledScan], *, on_progress: Progress | None = None) -> Predictions:
        """Read each scan, one per core at a time."""
        probabilities = np.zeros((len(samples), len(PATHOLOGIES)))
        embeddings = np.zeros((len(samples), self.bundle.embedding_dim), np.float32)
        with ThreadPoolExecutor(available_cores()) as pool:
            encoded_scans = pool.map(lambda sample: self._engine.read(sample.scan, lesion=sample.lesion), samples)
            for row, encoded in enumerate(encoded_scans):
                likelihoods = encoded.prediction.probabilities
                probabilities[row] = [likelihoods.get(name, 0.0) for name in PATHOLOGIES]
                embeddings[row] = encoded.embedding
                if on_progress is not None:
                    on_progress(row + 1, len(samples))
        return Predictions(probabilities=probabilities, embeddings=embeddings)

    def check_served(
        self,
        gallery: Sequence[LabelledScan],
        embeddings: NDArray[np.float32],
        *,
        queries: Sequence[LabelledScan],
        ranked: Sequence[Search],
    ) -> None:
        """Check that a real gallery, searched through `SearchEngine.query`, gives the neighbours that are scored.

        Args:
            gallery: scans that may be found.
            embeddings: float32 (N, D), as `predict` gave them.
            queries: scans that were searched for.
            ranked: their ranked galleries, in their order.

        Raises:
            ResultsError: an engine's matches differ by more than the rounding of stored embeddings explains.
        """
        cosine = {s.name: i for i, s in enumerate(gallery)}
        units = unit_rows(embeddings)
        names = {(s.record.dataset, s.scan.scan_id): s.name for s in gallery}
        picked = np.linspace(0, len(queries) - 1, min(CHECKED, len(queries))).astype(int)
        with (
            tempfile.TemporaryDirectory(prefix="sonoseek-evaluate-") as scratch,
            create_gallery(
                Path(scratch) / "gallery", bundle_id=self.bundle.bundle_id, dimension=self.bundle.embedding_dim
            ) as store,
        ):
            store.add([_entry(s, e) for s, e in zip(gallery, embeddings, strict=True)])
            engine = SearchEngine(self.encoder, store)
            for i in picked:
                query, row = queries[i], ranked[i]
                own = unit_rows(self.predict([query]).embeddings)[0]
                report = engine.query(
                    replace(query.scan, patient_id=None),
                    k=len(row.matches),
                    lesion=query.lesion,
                    per_patient=False,
                    deduplicate=False,
                )
                expected = [float(units[cosine[name]] @ own) for name in row.matches]
                served = [m.similarity for m in report.matches if (m.dataset, m.scan_id) in names]
                if len(served) != len(expected) or not np.allclose(expected, served, atol=ROUNDING):
                    raise ResultsError(
                        f"{query.name}: the engine serves similarities {np.round(served, 4).tolist()}, scored were "
                        f"{np.round(expected, 4).tolist()}; both must agree to {ROUNDING}. Bundle {self.identity} or "
                        "its gallery is not what was scored: export it again."
                    )


def _entry(sample: LabelledScan, embedding: NDArray[np.float32]) -> GalleryEntry:
    return GalleryEntry(
        record=sample.record,
        scan_id=sample.scan.scan_id,
        embedding=embedding,
        picture=encode_picture(sample.scan.pixels),
        scan_shape=sample.scan.shape,
        spacing_mm=sample.scan.spacing_mm,
        laterality=sample.scan.laterality,
        view=sample.scan.view,
        source=sample.scan.source,
        fingerprint="",
    )


class BundleSystem:
    """Finished bundles: one for all rounds, or one per round in `seed-S/fold-F/` as training leaves them."""

    def __init__(self, path: Path) -> None:
        """Name them.

        Args:
            path: a bundle's folder, or one that holds `seed-0/fold-0/training/bundle` or `fold-0/bundle` ….

        Raises:
            BundleError: a single bundle that is missing or damaged.
        """
        self._path = path
        self._single = load_bundle(path) if is_bundle(path) else None
        name = self._single.bundle_id if self._single else f"bundles-{path.resolve().name}"
        self.name = name
        self.title = name
        self.description = "A finished bundle." if self._single else "Finished bundles, one per round."
        self.identity = name

    def prepare(self, tasks: Sequence[Task], *, on_progress: Progress | None = None) -> None:
        """Nothing to learn."""

    def fit(self, task: Task) -> Fitted:
        """Open the round's bundle, and refuse one that has seen a test case.

        Raises:
            SplitError: it was trained on a case of the test side, or does not say what it was trained on.
            NotFoundError: there is none for this round.
            BundleError: it is damaged.
        """
        bundle = self.bundle_of(task.round_)
        check_unseen(bundle, task.round_.test)
        fitted_here = bool(sum(map(len, task.round_.validation.values()))) and self._single is None
        return FittedBundle(bundle, own_thresholds=not fitted_here)

    def reads_marks(self, round_: Round) -> bool:
        """Whether the round's bundle reads a reader's mark; errors as `bundle_of`."""
        return self.bundle_of(round_).reads_marks

    def bundle_of(self, round_: Round) -> Bundle:
        """The bundle that predicts in a round.

        Raises:
            NotFoundError: there is none.
            BundleError: it is damaged.
        """
        return self._single or load_bundle(self._of(round_))

    def _of(self, round_: Round) -> Path:
        label, fold = round_.label, f"fold-{round_.fold}"
        places = [self._path / label / "training" / "bundle", self._path / label / "bundle"]
        if round_.seed == 0:
            places.append(self._path / fold / "bundle")
        for place in places:
            if place.is_dir():
                return place
        raise NotFoundError(
            f"no bundle for round {label} in {self._path}; looked for {', '.join(str(p) for p in places)}. "
            "Give a folder with one bundle per round, a single bundle, or a recipe (--system) that trains them."
        )


def check_unseen(bundle: Bundle, test: Mapping[str, Sequence[str]]) -> None:
    """Refuse a bundle that was trained on a case of the test side, or does not say what it was trained on.

    In one's own archives (`OWN_ARCHIVES`) the same name proves nothing; there `without_seen` compares the pixels.

    Args:
        bundle: as its maker described it.
        test: dataset name → case_ids.

    Raises:
        SplitError: with the number of cases, one of them, and the remedy.
    """
    seen = bundle.training.get("cases")
    if not seen:
        raise SplitError(
            f"bundle {bundle.bundle_id} does not list the cases that it was trained on; figures from it prove "
            "nothing. Score a bundle of `sonoseek train`, or let `--system RECIPE` train one per round."
        )
    for name, case_ids in test.items():
        if name in OWN_ARCHIVES and bundle.training_scans is not None:
            continue
        if crossing := sorted(set(seen.get(name, ())) & set(case_ids)):
            raise SplitError(
                f"bundle {bundle.bundle_id} was trained on {len(crossing)} cases of the test side ({crossing[0]!r} of "
                f"{name}); it must have seen none. Let `--system RECIPE` train one bundle per round."
            )
