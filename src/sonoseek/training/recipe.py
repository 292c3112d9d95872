"""A recipe: everything that decides how a network is trained, in one TOML file, read strictly."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sonoseek.core import PATHOLOGIES, InvalidValueError, NotFoundError
from sonoseek.encoder.manifest import RECIPE_KEYS, renamed_keys
from sonoseek.preprocessing import PreprocessingRecipe
from sonoseek.training.recipe_check import check_fields

Pathology = Literal["normal", "benign", "malignant"]
NonNegative = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
Half = Annotated[float, Meta(ge=0, le=0.5)]
Edge = Annotated[float, Meta(ge=0, le=0.4)]
Count = Annotated[int, Meta(ge=1)]
CountOrNone = Annotated[int, Meta(ge=0)]
AtLeastTwo = Annotated[int, Meta(ge=2)]
LESION_NETWORKS = ("outline", "lesion_pooling")
"""Networks that estimate where a lesion lies, which masks can teach."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class DatasetChoice(_Part, frozen=True):
    """One archive to train on.

    Attributes:
        name: in the table of datasets.
        root: its folder (a manifest's: or its CSV file), absolute or under the data folder; "" means `name`.
        count, seed: of the phantom; not used by others.
        folded: whether it takes part in the cross-validation and in the calibration. An archive that does not is
            trained on in every fold, and reported by its own validation part.
        classes: the classes that this archive could have shown. The logits of the others are left out of the loss, so
            that an archive without normal scans teaches nothing about them.
        share: scans drawn per epoch, as a multiple of what the archive holds.
    """

    name: str
    root: str = ""
    count: Count = 600
    seed: int = 0
    folded: bool = True
    classes: tuple[Pathology, ...] = ("normal", "benign", "malignant")
    share: Positive = 1.0


class Start(_Part, frozen=True):
    """Where the weights start.

    Attributes:
        weights: a .safetensors file: absolute, in the folder with start weights, or `hub:owner/model/file`; "random"
            for none. Another run's `network.safetensors` starts the whole network, other files its backbone.
        sha256: that the file must have; "" takes any.
        origin: what the model card says of it.
        licence: of the start weights.
        frozen: first blocks of the backbone "efficientnet-b4" that keep their start weights, its stem included; 0:
            none. They see edges and textures; without their gradients a step takes half the time.
    """

    weights: str = "random"
    sha256: str = ""
    frozen: CountOrNone = 0
    origin: str = "Random."
    licence: str = ""


class Optimiser(_Part, frozen=True):
    """How the weights move.

    Attributes:
        epochs, batch: scans per batch, each in `views` views.
        views: 2, or 1, which leaves nothing to draw the views of one scan together.
        lr: peak, of the layers that start at random. backbone_lr: peak, of the start weights.
        weight_decay: of AdamW.
        warmup: share of all steps in which the rate rises; then it falls along a cosine.
        average: decay per step of the running mean of the weights that is exported; 0 exports the last weights.
        patience: epochs without a lower loss on the validation part after which training stops; then the weights of
            the best epoch are used. 0: never, the last epoch's weights are used.
        epoch_scans: most scans drawn per epoch, so that a larger archive gets the same budget; 0: no limit. A smaller
            training side is drawn about once.
        clip: largest norm of the gradient.
    """

    epochs: Count = 14
    batch: AtLeastTwo = 24
    views: Annotated[int, Meta(ge=1, le=2, description="it must be 1 or 2")] = 2
    lr: Positive = 1e-3
    backbone_lr: Positive = 2e-4
    weight_decay: float = 0.02
    warmup: BelowOne = 0.15
    average: BelowOne = 0.98
    patience: CountOrNone = 0
    epoch_scans: CountOrNone = 0
    clip: Positive = 5.0


class Augmentation(_Part, frozen=True):
    """What may happen to a training scan; each switch 0 turns its kind off. Never upside down: rows are depth.

    Attributes:
        mirror: probability of left–right mirroring.
        rotate: largest turn, degrees.
        crop: largest share cut from each edge. aspect: largest relative change of width against height. shrink: largest
            share by which the scan is smaller than the canvas allows, as a deeper field of view makes it.
        gain, contrast, gamma: largest relative change.
        tgc: largest relative change of brightness from top to bottom.
        curve: largest share of a random rising tone curve, beside the identity.
        speckle: largest deviation of multiplied noise. grain: its coarsest grain, pixels.
        shadow: probability of a soft dark strip from some depth downwards.
        style: probability of another training scan's grey-value distribution, of whatever archive.
        mix_style: probability that a batch's early features trade mean and deviation between scans (MixStyle, Zhou et
            al. 2021, arXiv:2104.02008).
        resolution: largest relative change of the canvas's side, one draw per batch.
        close_up: probability that a view shows the lesion's surroundings alone, where a mask was drawn; a scan without
            one shows any part.
        blur: probability of smoothing. downsample: probability of storage at 0.35 … 0.9 of the scan's size. jpeg:
            probability of lossy storage. marks: probability of burned-in annotations, the same for every class, so
            that they tell nothing.
    """

    mirror: NonNegative = 0.5
    rotate: Annotated[float, Meta(ge=0, le=45, description="it must lie in 0 … 45 degrees: rows are depth")] = 12.0
    crop: Edge = 0.12
    aspect: Edge = 0.1
    shrink: Half = 0.0
    gain: NonNegative = 0.2
    contrast: NonNegative = 0.25
    gamma: NonNegative = 0.3
    tgc: NonNegative = 0.3
    curve: Share = 0.0
    speckle: NonNegative = 0.12
    grain: Annotated[float, Meta(ge=1)] = 3.0
    shadow: NonNegative = 0.0
    style: NonNegative = 0.0
    mix_style: NonNegative = 0.0
    resolution: Half = 0.0
    close_up: NonNegative = 0.0
    blur: NonNegative = 0.25
    downsample: NonNegative = 0.0
    jpeg: NonNegative = 0.3
    marks: NonNegative = 0.25


class Loss(_Part, frozen=True):
    """What is minimised: cross-entropy + supervised × SupCon + instance × InfoNCE over the views + what masks teach.

    Attributes:
        smoothing: of the labels.
        supervised: weight of the term that draws scans of one class together.
        instance: weight of the term that draws the views of one scan together, and apart from all others.
        contrast_temperature: of both.
        lesion: weight of the side task: estimate for each cell whether it holds lesion, from the drawn masks. It needs
            the network "outline" or "lesion_pooling".
        evidence: weight of the share of a scan's positive evidence for its own class that lies outside of the drawn
            lesion and a cell around it.
        descriptors: weight of the side task: estimate a lesion's roundness, solidity, height over width and, where the
            archive has it, BI-RADS from the embedding, linearly (`training.descriptors`). It is in no bundle.
        conflicts: what becomes of groups that carry two labels: "keep" them, "soften" their target to the group's
            mean, or "drop" them.
        balance: classes are drawn in proportion to count ** (1 − balance): 0 as they are, 1 equally.
        archive_balance: the same for archives, within one epoch's number of scans.
    """

    smoothing: BelowOne = 0.05
    supervised: NonNegative = 0.3
    instance: NonNegative = 0.2
    contrast_temperature: Positive = 0.1
    balance: Share = 0.5
    archive_balance: Share = 0.0
    lesion: NonNegative = 0.0
    evidence: NonNegative = 0.0
    descriptors: NonNegative = 0.0
    conflicts: Literal["keep", "soften", "drop"] = "keep"


class Teacher(_Part, frozen=True):
    """Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531): networks whose predictions are targets too.

    Attributes:
        systems: recipes trained before; in an evaluation the bundles of the same round are the teachers, so that none
            has seen a test scan. `sonoseek train` takes its teachers' bundles (`--teacher`).
        weight: of the teachers' mean prediction; the labels have 1 − weight.
        similarity: weight of the difference between the student's and the teachers' cosines within a batch.
        temperature: of both sides.
        once: whether a teacher reads each view once, as it did in its own training, and not as it is served, in several
            views and with a close-up: a quarter of the time. It needs the run that the teacher's bundle lies in.
    """

    systems: tuple[str, ...] = ()
    weight: Share = 0.5
    similarity: NonNegative = 1.0
    temperature: Positive = 2.0
    once: bool = False


class Recipe(_Part, frozen=True):
    """One training run, but for its fold.

    Attributes:
        name, version: of the bundle that it makes.
        network, backbone: in the tables of `networks`.
        embedding_dim: D.
        outline_floor: of the network "outline": weight of a cell that holds no lesion, beside 1 for one full of it.
        row_context: of the network "outline": False leaves the row GRU out (for "hybrid", that is the network "plain").
        many_views: serve the mean over several views (`networks.many_views`): eight where network and backbone can look
            at half-cell shifts, else the scan and its mirror image.
        close_up: serve the whole scan and the lesion's close-up (`networks.two_readings`). The canvas then has twice
            the side that the network reads, and training views have half the canvas's.
        seed: of the splits, the start, the order and the augmentation.
        folds: of the cross-validation.
        validation: share of the training side kept for calibration.
        preprocessing: as `PreprocessingRecipe.to_dict`; what is left out takes its default.
    """

    name: str
    datasets: tuple[DatasetChoice, ...]
    version: str = "0.1.0"
    network: str = "hybrid"
    backbone: str = "squeezenet"
    embedding_dim: AtLeastTwo = 256
    row_context: bool = True
    outline_floor: Annotated[float, Meta(gt=0, le=1)] = 0.1
    many_views: bool = False
    close_up: bool = False
    seed: int = 0
    folds: AtLeastTwo = 5
    validation: Annotated[float, Meta(gt=0, le=0.5)] = 0.125
    preprocessing: dict[str, Any] = {}  # msgspec copies empty defaults
    start: Start = Start()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation = Augmentation()
    loss: Loss = Loss()
    teacher: Teacher = Teacher()

    def __post_init__(self) -> None:
        for wrong in _contradictions(self):
            raise InvalidValueError(f"recipe {self.name!r}: {wrong}. Correct the recipe.")

    @property
    def preprocessing_recipe(self) -> PreprocessingRecipe:
        """The preprocessing that the network is trained behind."""
        return PreprocessingRecipe.from_dict({"version": PreprocessingRecipe().version, **self.preprocessing})


def load_recipe(path: Path | str) -> Recipe:
    """Read a recipe.

    Raises:
        NotFoundError: no such file.
        InvalidValueError: not TOML, an unknown key (the nearest known one is named), a wrong type or range.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(f"no readable recipe at {file}; give a .toml file, such as those in recipes/.") from error
    return parse_recipe(text, where=file.name, folder=file.parent)


def parse_recipe(text: str, *, where: str = "the recipe", folder: Path | None = None) -> Recipe:
    """The same from text; `where` names it in messages, `folder` holds what it extends.

    A recipe that says `extends = "other.toml"` is that recipe but for what it says itself: tables are merged key by
    key, everything else, lists included, replaces.
    """
    raw = _resolved(text, where=where, folder=folder, seen=())
    check_fields(raw, Recipe, where=where)
    try:
        recipe = msgspec.convert(raw, Recipe)
        _ = recipe.preprocessing_recipe
    except msgspec.ValidationError as error:
        raise InvalidValueError(f"{where}: {error}. Correct it.") from error
    return recipe


def _resolved(text: str, *, where: str, folder: Path | None, seen: tuple[str, ...]) -> dict[str, Any]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidValueError(f"{where} is not TOML: {error}. Correct it.") from error
    below = raw.pop("extends", None)
    if below is None:
        return raw
    if folder is None or not isinstance(below, str) or below in seen:
        raise InvalidValueError(
            f"{where} extends {below!r}; it must name another recipe's file beside it, and none that extends this one."
        )
    try:
        base = (folder / below).read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(
            f"{where} extends {below!r}, and there is no {folder / below}. Correct its name."
        ) from error
    return _merged(_resolved(base, where=below, folder=folder, seen=(*seen, below)), raw)


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        inside = merged.get(key)
        merged[key] = _merged(inside, value) if isinstance(value, dict) and isinstance(inside, dict) else value
    return merged


LATER = (("teacher", "once", False), ("loss", "descriptors", 0.0))
"""Table, key, default. At their default they are left out, so that runs and results of before keep their digest."""


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Plain values, every default spelled out but of keys that came after the first results (`LATER`)."""
    plain: dict[str, Any] = msgspec.to_builtins(recipe)
    for table, key, default in LATER:
        if plain[table][key] == default:
            del plain[table][key]
    return plain


def recipe_from_dict(plain: Mapping[str, Any]) -> Recipe:
    """What `recipe_to_dict` wrote, in a run folder or a bundle; keys of older versions are read by their new names.

    Raises:
        msgspec.ValidationError: an unknown key, a wrong type or range.
    """
    return msgspec.convert(renamed_keys(plain, RECIPE_KEYS), Recipe)


def recipe_digest(plain: Mapping[str, Any]) -> str:
    """16 hex digits over a recipe's values, as `recipe_to_dict` writes them.

    Renamed keys are hashed under their first name, so that runs and results keep their digest.
    """
    first = renamed_keys(plain, {name: old for old, name in RECIPE_KEYS.items()})
    return hashlib.sha256(json.dumps(first, sort_keys=True).encode()).hexdigest()[:16]


def _contradictions(recipe: Recipe) -> list[str]:
    """What no single value shows; ranges stand beside the fields."""
    optimiser, loss, start = recipe.optimiser, recipe.loss, recipe.start
    checks = [
        (bool(recipe.datasets), "datasets is empty; name at least one"),
        (any(d.folded for d in recipe.datasets), "no dataset is folded; at least one must be, or nothing calibrates"),
        (len({(d.name, d.root) for d in recipe.datasets}) == len(recipe.datasets), "a dataset stands twice"),
        (all(len(set(d.classes)) >= 2 for d in recipe.datasets), f"classes must name two or more of {PATHOLOGIES}"),
        (bool(recipe.name) and recipe.name.replace("-", "").isalnum(), "name must be letters, digits and hyphens"),
        (
            optimiser.views == 2 or loss.instance == 0,
            "instance draws two views together; set views = 2 or instance = 0",
        ),
        (
            recipe.network in LESION_NETWORKS or loss.lesion == 0,
            f"loss.lesion teaches where a lesion lies, and the network {recipe.network!r} estimates none; "
            f"set network to one of {', '.join(LESION_NETWORKS)}, or lesion = 0",
        ),
        (
            recipe.network == "outline" or recipe.row_context,
            f"row_context = false is for the network 'outline', not {recipe.network!r}",
        ),
        (
            start.frozen == 0 or (recipe.backbone == "efficientnet-b4" and start.weights != "random"),
            f"start.frozen is {start.frozen}; it must be 0, or the number of first blocks of the backbone "
            "'efficientnet-b4' that keep their start weights",
        ),
        (
            not recipe.close_up or recipe.network == "lesion_pooling",
            f"close_up is for the network 'lesion_pooling', not {recipe.network!r}",
        ),
    ]
    return [message for holds, message in checks if not holds]
