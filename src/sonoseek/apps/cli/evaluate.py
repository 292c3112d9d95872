"""`sonoseek evaluate`: score systems by a named protocol (needs the extra `evaluate`)."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sonoseek.apps.cli.explanations import EXPLAINED, EXPLANATIONS, explained_rounds, measure_heatmaps, rescore_heatmaps
from sonoseek.core import InvalidValueError, NotFoundError, Settings, require_extra

if TYPE_CHECKING:
    from sonoseek.evaluate.context import BenchmarkContext
    from sonoseek.evaluate.protocols import Protocol
    from sonoseek.evaluate.rescoring import ScoredProtocol
    from sonoseek.evaluate.systems.base import System

RECIPES = Path("recipes")
SHOWN = (
    ("accuracy", "classification", "accuracy"),
    ("balanced acc.", "classification", "balanced_accuracy"),
    ("AUROC malignant", "classification", "auroc_malignant"),
    ("ECE", "classification", "ece"),
    ("P@5", "retrieval", "precision@5"),
    ("mAP", "retrieval", "map_full"),
    ("vote@5", "retrieval", "majority_vote@5"),
)

ProtocolName = Annotated[str | None, typer.Option(help="A protocol's name, e.g. busi-grouped; see the docs.")]
Systems = Annotated[
    list[str] | None,
    typer.Option("--system", help="A peer, or a recipe (name or file) that is trained per round; may be repeated."),
]
BundlePath = Annotated[
    Path | None,
    typer.Option(
        "--bundle", help="A bundle: `accurate`, `fast` or its folder; or a folder with one per round. No torch."
    ),
]
Rescore = Annotated[Path | None, typer.Option(help="Score all results under this folder again, from their files.")]
Runs = Annotated[Path, typer.Option(help="Folder for rounds under way; holds preprocessed scans, keep it out of git.")]


def evaluate(
    protocol: ProtocolName = None,
    system: Systems = None,
    bundle: BundlePath = None,
    rescore: Rescore = None,
    data: Annotated[Path | None, typer.Option(help="Folder with the datasets; SONOSEEK_DATA by default.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder with start weights; SONOSEEK_WEIGHTS.")] = None,
    runs: Runs = Path("runs"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of results.")] = Path("docs/results"),
    seeds: Annotated[str | None, typer.Option(help="Only these seeds of the protocol, e.g. 0,1.")] = None,
    accelerator: Annotated[
        str, typer.Option(help="Where recipes are trained: `auto` (a GPU where there is one), `cpu` or `gpu`.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="Of a recipe's layers in training: `32`, `bf16`, or `16` on a GPU.")
    ] = "32",
    finished: Annotated[
        bool,
        typer.Option(help="Score the rounds whose training has ended, train none, and say how many of them stand."),
    ] = False,
    robustness: Annotated[bool, typer.Option(help="Also score the test scans under nine image corruptions.")] = False,
    train_on: Annotated[
        str | None, typer.Option(help="`external`: training datasets, NAME or NAME=PATH, separated by commas.")
    ] = None,
    test_on: Annotated[str | None, typer.Option(help="`external`: dataset to test on, NAME or NAME=PATH.")] = None,
    of: Annotated[
        str | None,
        typer.Option(help=f"`explanations`: the protocol whose rounds are explained; {EXPLAINED} by default."),
    ] = None,
    thorough: Annotated[
        int, typer.Option(min=0, help="`explanations`: scans per class and fold for the slow measures; 0: none.")
    ] = 12,
    every: Annotated[
        int, typer.Option(min=1, help="`explanations`: measure every Nth patient or group of the test scans alone.")
    ] = 1,
    peers: Annotated[
        bool, typer.Option(help="`explanations`: also measure gradient methods of others, where torch is installed.")
    ] = True,
    figures: Annotated[
        bool | None,
        typer.Option("--figures/--no-figures", help="Draw the figures; not done by --rescore unless asked."),
    ] = None,
) -> None:
    """Score systems on scans outside their training data, by a named protocol. A stopped run continues."""
    require_extra("evaluate")  # now, rather than after hours of scoring
    from sonoseek.apps.cli.show import progress_bars
    from sonoseek.encoder.bundle import SHIPPED, bundle_folder
    from sonoseek.evaluate import evaluate as run_protocol
    from sonoseek.evaluate import open_context
    from sonoseek.evaluate import rescore as score_again
    from sonoseek.evaluate.reader_marks import check_reads_marks, gives_marks
    from sonoseek.evaluate.seen import check_sides, without_seen
    from sonoseek.evaluate.systems.bundle import BundleSystem

    if rescore is not None:
        again = score_again(rescore)
        _show(again, out=rescore, drawn=tuple(again) if figures else ())
        rescore_heatmaps(rescore)
        return
    if protocol is None:
        raise InvalidValueError("no protocol is named; give --protocol NAME, or --rescore DIR for results that exist.")
    if not system and bundle is None:
        raise InvalidValueError("nothing is named to be scored; give --system NAME, a recipe, or --bundle PATH.")
    if bundle is not None:
        bundle = bundle_folder(None if bundle == Path("default") and not bundle.exists() else bundle)
    if bundle is not None and not bundle.is_dir():
        raise NotFoundError(
            f"there is no folder {bundle}; --bundle names a bundle, a folder with one per round, one that ships "
            f"({', '.join(SHIPPED)}), or `default`. Correct the path."
        )
    settings = Settings.from_environment()
    root, weights = data or settings.data, weights or settings.weights
    only = None if seeds is None else [_seed(part) for part in seeds.split(",")]
    chosen = _protocol(protocol, train_on=train_on, test_on=test_on, of=of, seeds=only, bundle=bundle, data_root=root)
    systems = _systems(
        system or [], bundle, data_root=root, weights_root=weights, runs=runs, where=(accelerator, precision)
    )
    tested = next((made for made in systems if isinstance(made, BundleSystem)), None)
    options = getattr(chosen, "options", ("--train-on",))
    if "--train-on" not in options and (learning := [made.name for made in systems if made is not tested]):
        raise InvalidValueError(
            f"{learning[0]!r} needs training scans, and there are none: the datasets that the bundle learnt from are "
            "not in the data folder. Name scans with --train-on, or score the bundle alone."
        )
    with progress_bars() as on_step:

        def narrow(context: BenchmarkContext) -> BenchmarkContext:
            """For all systems alike: they are scored on the same scans."""
            for made in systems if gives_marks(context.protocol) else ():
                check_reads_marks(made, context.rounds)
            if tested is None:
                return context
            check_sides(context, tested.bundle_of)  # before all scans are compared with all, which takes minutes
            return without_seen(context, tested.bundle_of, on_progress=lambda *steps: on_step("training scans", *steps))

        context = open_context(
            chosen,
            data_root=root,
            cache=runs / "near-duplicates",
            seeds=only,
            narrow=narrow,
            on_progress=lambda done, total: on_step("comparing all scans with all", done, total),
        )
        if protocol == EXPLANATIONS:
            for made in systems:
                measure_heatmaps(
                    context,
                    made,
                    runs=runs,
                    out=out,
                    per_class=thorough,
                    every=every,
                    peers=peers,
                    bundle=bundle,
                    on_step=on_step,
                )
            _show_seen(context)
            return
        for made in systems:
            run_protocol(
                context,
                made,
                runs=runs,
                out=out,
                robustness=robustness,
                finished=finished,
                command=_command(protocol, chosen, made.name, seeds=seeds, robustness=robustness, bundle=bundle),
                on_progress=lambda what, done, total, made=made: on_step(f"{made.name}, {what}", done, total),  # type: ignore[misc]
            )
    _show_seen(context)
    for source, why in sorted(context.refused.items()):
        typer.echo(f"left out: {source}: {why}", err=True)
    _show(score_again(out), out=out, drawn=() if figures is False else (chosen.name,), shown=chosen.name)


def _show_seen(context: BenchmarkContext) -> None:
    from sonoseek.evaluate.seen import in_words

    if context.seen is not None:
        typer.echo(in_words(asdict(context.seen)), err=True)


def _protocol(
    name: str,
    *,
    train_on: str | None,
    test_on: str | None,
    of: str | None,
    seeds: list[int] | None,
    bundle: Path | None,
    data_root: Path | None,
) -> Protocol:
    from sonoseek.evaluate import PROTOCOLS

    if of is not None and (name != EXPLANATIONS or test_on is not None):
        raise InvalidValueError(
            "--of names the protocol whose rounds 'explanations' explains; leave it out "
            f"{f'of {name!r}' if name != EXPLANATIONS else 'beside --test-on, which names other scans'}."
        )
    if name == EXPLANATIONS:
        if test_on is None:
            if train_on:
                raise InvalidValueError("--train-on names the matches of a test elsewhere; say --test-on as well.")
            return explained_rounds(of or EXPLAINED, seeds=seeds)
        name = "external"
    kind = PROTOCOLS.load(name)
    if name != "external":
        if train_on or test_on:
            raise InvalidValueError(f"--train-on and --test-on choose the sides of 'external'; {name!r} has its own.")
        made: Protocol = kind()
        return made
    paths: dict[str, Path] = {}
    names = [_named(part, paths) for part in train_on.split(",")] if train_on else None
    tested = _named(test_on or "busbra", paths)
    if names is None:
        names = _trained_on(bundle, data_root, without=tested) if bundle is not None else ["busi"]
    external: Protocol = kind(train_on=names, test_on=tested, paths=paths)
    return external


def _named(part: str, paths: dict[str, Path]) -> str:
    """NAME or NAME=PATH."""
    name, _, path = part.strip().partition("=")
    if path:
        paths[name] = Path(path)
    return name


def _trained_on(bundle: Path, data_root: Path | None, *, without: str) -> list[str]:
    """Datasets that a single bundle learnt from and that are at hand: its gallery."""
    from sonoseek.encoder import is_bundle, load_bundle

    if not is_bundle(bundle):
        return ["busi"]
    trained_on = load_bundle(bundle).training.get("cases", {})
    return [
        n for n in trained_on if n not in ("phantom", without) and data_root is not None and (data_root / n).is_dir()
    ]


def _systems(
    names: list[str],
    bundle: Path | None,
    *,
    data_root: Path | None,
    weights_root: Path | None,
    runs: Path,
    where: tuple[str, str],
) -> list[System]:
    from sonoseek.evaluate import SYSTEMS
    from sonoseek.evaluate.systems.bundle import BundleSystem

    made: list[System] = []
    for name in names:
        if name in SYSTEMS:
            made.append(SYSTEMS.load(name)(cache=runs / "features"))
        else:
            made.append(_trained_system(name, data_root=data_root, weights_root=weights_root, runs=runs, where=where))
    if bundle is not None:
        made.append(BundleSystem(bundle))
    return made


def _trained_system(
    name: str, *, data_root: Path | None, weights_root: Path | None, runs: Path, where: tuple[str, str]
) -> System:
    """A frozen backbone or a recipe; both need the extra `train`."""
    from sonoseek.evaluate import SYSTEMS
    from sonoseek.training import FROZEN

    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if name not in FROZEN and not path.is_file():
        known = [*SYSTEMS, *FROZEN, *(p.stem for p in sorted(RECIPES.glob("*.toml")))]
        raise NotFoundError(
            f"no system is called {name!r}; there are: {', '.join(known)}. A recipe's file may be named as well."
        )
    require_extra("train")  # now, rather than when a trained network is to be exported
    from sonoseek.training import Machine, RecipeSystem, frozen_system, load_recipe

    if name in FROZEN:
        system: System = frozen_system(name, weights_root=weights_root, cache=runs / "features")
        return system
    trained: System = RecipeSystem(
        load_recipe(path),
        data_root=data_root,
        weights_root=weights_root,
        cache=runs / "prepared",
        machine=Machine(accelerator=where[0], precision=where[1]),
    )
    return trained


def _seed(text: str) -> int:
    if not text.strip().isdigit():
        raise InvalidValueError(f"--seeds holds {text!r}; it lists whole numbers from 0 with commas between: 0,1.")
    return int(text)


def _command(
    name: str, protocol: Protocol, system: str, *, seeds: str | None, robustness: bool, bundle: Path | None
) -> str:
    """What to type to get this again, without the paths of this machine."""
    parts = ["sonoseek", "evaluate", "--protocol", name, *getattr(protocol, "options", ())]
    parts += ["--system", system] if bundle is None else ["--bundle", bundle.name]
    parts += ["--seeds", seeds] if seeds else []
    return shlex.join([*parts, *(["--robustness"] if robustness else [])])


def _show(scored: dict[str, ScoredProtocol], *, out: Path, drawn: tuple[str, ...], shown: str | None = None) -> None:
    """Draw figures, write the page, print a table per protocol."""
    from sonoseek.apps.cli.show import table
    from sonoseek.evaluate.page import draw_figures, write_page
    from sonoseek.evaluate.page_hospitals import TITLE, hospital_rows

    for name in (name for name in drawn if scored[name].systems):
        draw_figures(scored[name])
    page = write_page(out, scored)
    for name, protocol in scored.items():
        if shown in (None, name):
            rows = [
                (
                    s.metrics["system"]["name"],
                    *(_cell(s.metrics.get(part, {}).get(figure)) for _, part, figure in SHOWN),
                )
                for s in protocol.systems.values()
            ]
            table(("", *(title for title, _, _ in SHOWN)), rows, title=str(protocol.about["description"]))
            heads, hospitals = hospital_rows(list(protocol.systems.values()), protocol.unfinished)
            if hospitals:
                table(heads, hospitals, title=f"By the {TITLE}; thresholds are those of the others")
    typer.echo(f"written: {page}", err=not sys.stdout.isatty())


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["mean"] is None:
        return "–"
    interval = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    spread = "" if figure["sd"] is None else f"\n{figure['mean']:.3f} ± {figure['sd']:.3f}"
    return f"{figure['pooled']:.3f}{interval}{spread}"
