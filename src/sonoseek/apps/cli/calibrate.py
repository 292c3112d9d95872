"""`sonoseek calibrate`: temperature, biases and thresholds refitted on an archive's own labelled cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sonoseek.apps.cli.options import Bundle
from sonoseek.core import GalleryError, InvalidValueError

if TYPE_CHECKING:
    from sonoseek.encoder import ArchiveCalibration
    from sonoseek.encoder.archive_calibration import Figure
    from sonoseek.gallery import Gallery as OpenGallery

SHARES = (
    ("set_coverage", "cases whose class is in the prediction set"),
    ("label_share", "cases that get a label"),
    ("label_accuracy", "labels that are right"),
)
NUMBERS = (
    ("log_loss", "log loss"),
    ("ece", "calibration error (ECE)"),
    ("auroc", "AUROC malignant"),
    ("set_size", "classes in the prediction set"),
)


def calibrate(
    gallery: Annotated[str, typer.Option("--gallery", "-g", help="Folder or file of the gallery.")],
    bundle: Bundle = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the figures and store nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Store it where it is no better beyond chance, too.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Go back to the bundle's calibration.")] = False,
) -> None:
    """Refit temperature, biases and thresholds on an archive's own labelled cases, cross-validated by patient."""
    from sonoseek.gallery.calibration_file import calibration_path, remove_calibration

    if remove and (dry_run or force):
        raise InvalidValueError("--remove takes the calibration away; leave --dry-run and --force out.")
    if remove:
        path = calibration_path(gallery)
        done = f"removed: {path}" if remove_calibration(gallery) else f"there is no calibration at {path}"
        typer.echo(f"{done}; the bundle's own is used")
        return
    _fit(gallery, bundle, store=not dry_run, force=force)


def _fit(location: str, bundle: Path | None, *, store: bool, force: bool) -> None:
    from sonoseek.apps.cli.show import progress_bars
    from sonoseek.encoder import load_bundle, shipped_bundle
    from sonoseek.evaluate.archive_fit import calibrate_archive
    from sonoseek.gallery import open_gallery
    from sonoseek.gallery.calibration_file import calibration_path, write_calibration

    calibration_path(location)  # a gallery on a server is refused now, rather than after the fit
    with open_gallery(location) as gallery:
        with progress_bars() as on_progress:
            calibration = calibrate_archive(
                gallery, load_bundle(bundle or shipped_bundle(gallery.bundle_id)), on_progress=on_progress
            )
        used = _in_use(gallery)
    _show(calibration)
    if not store:
        typer.echo(f"nothing is stored (--dry-run); {used}")
    elif calibration.improved_by or force:
        path = write_calibration(location, calibration)
        typer.echo(f"stored: {path}; queries of this gallery use it from now on, a server from its next start")
    else:
        typer.echo(f"nothing is stored; {used}. Store it nevertheless with --force")


def _in_use(gallery: OpenGallery) -> str:
    """Which calibration queries of the gallery use now."""
    from sonoseek.gallery.calibration_file import read_calibration

    try:
        earlier = read_calibration(gallery)
    except GalleryError as error:
        typer.echo(f"warning: {error}", err=True)
        return "the file there stays as it is"
    if earlier is None or earlier.bundle_id != gallery.bundle_id:
        return "the bundle's calibration stays in use"
    return f"the calibration of {earlier.fitted}, on {earlier.cases} cases, stays in use"


def _show(calibration: ArchiveCalibration) -> None:
    from sonoseek.apps.cli.show import table
    from sonoseek.evaluate.archive_fit import left_out_in_words

    classes = ", ".join(f"{count} {name}" for name, count in calibration.class_cases.items())
    typer.echo(
        f"{calibration.cases} cases ({classes}), {calibration.scans} scans, {calibration.patients} patients or groups. "
        f"{left_out_in_words(calibration.left_out)}".rstrip()
    )
    figures = calibration.figures
    rows = [(text, *(_number(each) for each in _pair(calibration, name))) for name, text in NUMBERS]
    rows += [(text, *(_share(each) for each in _pair(calibration, name))) for name, text in SHARES]
    for name in calibration.operating_points:
        whose = " (the bundle's)" if name in calibration.bundle_points else ""
        for rate in ("sensitivity", "specificity"):
            if f"{name}:{rate}" in figures:
                shares = (_share(each) for each in _pair(calibration, f"{name}:{rate}"))
                rows.append((f"{rate} at the {_point(name)} threshold{whose}", *shares))
    table(
        ("", "bundle's calibration", "this archive's"),
        rows,
        title="95 % intervals over patients or groups; the right column is cross-validated",
    )
    biases = ", ".join(f"{name} {bias:+.2f}" for name, bias in calibration.class_bias.items())
    typer.echo(f"temperature {calibration.temperature:.2f}; biases: {biases}")
    points = calibration.operating_points.items()
    typer.echo("thresholds: " + ", ".join(f"{_point(name)} {100 * each['threshold']:.1f} %" for name, each in points))
    if calibration.bundle_points:
        few = ", ".join(map(_point, calibration.bundle_points))
        typer.echo(f"too few cases to refit the threshold of {few}: the bundle's is carried over to this scale")
    typer.echo(_comparison(calibration))


def _comparison(calibration: ArchiveCalibration) -> str:
    change = calibration.log_loss_change
    change_text = f"the log loss changes by {_number(change, signed=True)}"
    if calibration.improved_by == "log_loss":
        return f"better beyond chance: {change_text}"
    if calibration.improved_by:
        before, after = _pair(calibration, f"{calibration.improved_by}:sensitivity")
        return (
            f"{change_text}, not beyond chance; but the bundle's {_point(calibration.improved_by)} threshold finds "
            f"{_share(before)} of the malignant scans here, this archive's {_share(after)}"
        )
    if change.low is not None and change.low > 0:
        return f"worse: {change_text}"
    return f"no better beyond chance: {change_text}"


def _pair(calibration: ArchiveCalibration, name: str) -> tuple[Figure, Figure]:
    return calibration.figures[name].before, calibration.figures[name].after


def _point(name: str) -> str:
    rate, _, value = name.partition("_")
    return f"{value} %-{rate}"


def _number(figure: Figure, *, signed: bool = False) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return "–"
    sign = "+" if signed else ""
    return f"{figure.value:{sign}.3f} ({figure.low:{sign}.3f} … {figure.high:{sign}.3f})"


def _share(figure: Figure) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return "–"
    return f"{100 * figure.value:.1f} % ({100 * figure.low:.1f} … {100 * figure.high:.1f})"
