"""Finished bundles as teachers: their predictions of a batch's views, and the cosines between the views.

On the CPU a teacher runs through ONNX Runtime. Where training runs on a GPU, a teacher whose bundle still lies in
its run's folder runs there, as the network that it was exported from; others run on the CPU. A teacher that reads each
view once (`Teacher.once`) is that network on either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sonoseek.core import InvalidValueError
from sonoseek.encoder import Bundle, load_bundle, open_encoder
from sonoseek.evaluate.systems.bundle import check_unseen
from sonoseek.preprocessing import PreprocessingRecipe
from sonoseek.training.batches import input_side
from sonoseek.training.building import load_trained, recipe_of, trained_beside
from sonoseek.training.recipe import Recipe


class Teachers:
    """Several bundles together: the mean of their calibrated log-probabilities, the mean of their cosines."""

    def __init__(self, bundles: Sequence[Path], recipe: Recipe, *, unseen: Mapping[str, Sequence[str]]) -> None:
        """Open them.

        Args:
            bundles: folders.
            recipe: of the student; its preprocessing must be that of its teachers, whose canvas may be finer.
            unseen: dataset → cases that no teacher may have learnt from, where there are any.

        Raises:
            InvalidValueError: a teacher has another preprocessing than the student or the other teachers, or a coarser
                canvas than the student; or it is to read once and does not lie in its run's folder.
            BundleError: a bundle is missing or damaged.
            SplitError: a teacher has seen what the student will be tested on.
        """
        opened = [load_bundle(path) for path in bundles]
        self._once = recipe.teacher.once
        self._runs = [trained_beside(Path(path)) for path in bundles]
        read = [_read(bundle, run, once=self._once) for bundle, run in zip(opened, self._runs, strict=True)]
        self.preprocessing = read[0]
        """That of the canvases that `read` takes; its canvas has the student's side, or a larger one."""
        own = recipe.preprocessing_recipe
        side = max(own.canvas_size, self.preprocessing.canvas_size)
        for bundle, preprocessing in zip(opened, read, strict=True):
            if preprocessing != replace(own, canvas_size=side):
                raise InvalidValueError(
                    f"teacher {bundle.bundle_id} reads {preprocessing.to_dict()}; the student {recipe.name!r} has "
                    f"{own.to_dict()}. Give all the same [preprocessing]; the teachers' canvas_size alone may be "
                    "larger, the same for all of them."
                )
            if unseen:
                check_unseen(bundle, unseen)
        self._encoders = [open_encoder(bundle, threads=torch.get_num_threads()) for bundle in opened]
        self._networks: dict[int, nn.Module] = {}

    def read(self, canvases: Tensor) -> tuple[Tensor, Tensor]:
        """Canvases (N, 1, S, S) → mean log-probabilities (N, C) and mean cosines (N, N), on the canvases' device."""
        log_probabilities, cosines = [], []
        for number, encoder in enumerate(self._encoders):
            logits, embeddings = self._outputs(number, canvases)
            log_probabilities.append((logits / encoder.bundle.temperature).log_softmax(1))
            units = normalize(embeddings, dim=1)
            cosines.append(units @ units.T)
        return torch.stack(log_probabilities).mean(0), torch.stack(cosines).mean(0)

    def _outputs(self, number: int, canvases: Tensor) -> tuple[Tensor, Tensor]:
        """One teacher's logits and embeddings, on the canvases' device."""
        run = self._runs[number]
        if run is not None and (self._once or canvases.is_cuda):
            if number not in self._networks:
                self._networks[number] = load_trained(run, once=self._once).to(canvases.device)
            with torch.no_grad():
                out = self._networks[number](canvases)
            return out.logits, out.embedding
        encoding = self._encoders[number].encode(np.ascontiguousarray(canvases.detach().cpu().numpy()))
        return torch.from_numpy(encoding.logits).to(canvases), torch.from_numpy(encoding.embedding).to(canvases)


def _read(bundle: Bundle, run: Path | None, *, once: bool) -> PreprocessingRecipe:
    """The preprocessing of the canvases that a teacher reads."""
    if not once:
        return bundle.recipe
    if run is None:
        raise InvalidValueError(
            f"teacher {bundle.bundle_id} lies in {bundle.path}, and not in its run's folder, which holds the network "
            "that reads once. Name the bundle in its run's folder, or set teacher.once = false."
        )
    return replace(bundle.recipe, canvas_size=input_side(recipe_of(run)))
