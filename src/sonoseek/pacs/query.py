"""One study → its result: frames are read by the rule, the one with the highest likelihood of malignancy is queried."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonoseek.core import ScanReadError, SonoseekError
from sonoseek.core.frames import sampled_frames
from sonoseek.pacs.journal import Claim, Finding
from sonoseek.pacs.rules import FrameChoice, PacsConfig, Rule

if TYPE_CHECKING:
    from sonoseek.engine import SearchEngine
    from sonoseek.reports.dicom import DicomResult


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The packages below, as a query uses them; a test gives others.

    Attributes:
        open_engine: takes no arguments.
        read_scan: path and keyword `frame`, 0-based.
        frame_count: path.
        read_source_header: path.
        queried_frame: keywords `sop_instance_uid`, `frame` (from 1), `malignant`.
        render: as `sonoseek.reports.dicom.render_dicom`.
    """

    open_engine: Callable[[], SearchEngine]
    read_scan: Callable[..., Any]
    frame_count: Callable[[Path], int]
    read_source_header: Callable[[Path], Any]
    queried_frame: Callable[..., Any]
    render: Callable[..., Sequence[DicomResult]]


def real_tools(config: PacsConfig) -> Tools:
    """The packages themselves; the engine's are imported when it is opened."""
    from sonoseek.io import frame_count, read_scan, read_source_header
    from sonoseek.reports.dicom import QueriedFrame, render_dicom

    def open_real() -> SearchEngine:
        from sonoseek.engine import open_engine

        return open_engine(config.gallery or None, bundle=config.bundle or None)

    return Tools(
        open_engine=open_real,
        read_scan=read_scan,
        frame_count=frame_count,
        read_source_header=read_source_header,
        queried_frame=QueriedFrame,
        render=render_dicom,
    )


def check_engine(config: PacsConfig) -> None:
    """See that gallery and bundle are there and belong together, and the site key, without loading the network.

    Raises:
        NotFoundError, GalleryError, BundleError, BundleMismatchError, TemporaryError: as `open_engine`.
        SiteKeyError: the key, by which files that name a patient are read, cannot be read or made.
    """
    from sonoseek.core import Settings
    from sonoseek.core.site_key import key_fingerprint
    from sonoseek.encoder import load_bundle, shipped_bundle
    from sonoseek.gallery import open_gallery

    key_fingerprint(Settings.from_environment())
    if not config.gallery:
        load_bundle(config.bundle or None)
        return
    opened = open_gallery(config.gallery)
    try:
        opened.check_bundle(load_bundle(config.bundle or shipped_bundle(opened.bundle_id)).bundle_id)
    finally:
        opened.close()


def choose_frames(count: int, choice: FrameChoice, most: int) -> list[int]:
    """Frames of a cine that are read, 0-based, ascending.

    Args:
        count: frames of the file, 1 or more.
        choice: "first", "middle", or "every".
        most: of "every"; see `sampled_frames`.
    """
    if choice == "first":
        return [0]
    return sampled_frames(count, most=1 if choice == "middle" and count > 1 else most)


def query_study(
    claim: Claim, rule: Rule, *, engine: SearchEngine, tools: Tools, path: Callable[[str], Path]
) -> tuple[Sequence[DicomResult], Finding, str]:
    """Make the result of a study.

    Args:
        claim: the study.
        rule: that it falls under.
        engine: open.
        tools: the packages.
        path: name in the store → its path.

    Returns:
        The objects, the frame that they are of, and what could not be read, "" where all could.

    Raises:
        ScanReadError: none of the pictures can be read, or some were removed meanwhile.
        SonoseekError: as the packages raise.
    """
    gone = sum(name is None for _, name in claim.files)
    if gone:
        raise ScanReadError(
            f"{gone} of {len(claim.files)} files of the study were removed after `keep_days`; its result would be of a "
            "part. Send the study again."
        )
    frames: list[Any] = []
    unread: dict[str, str] = {}
    best: tuple[tuple[bool, float], str, int, Any] | None = None
    for uid, name in claim.files:
        for frame, scan in _scans(path(str(name)), rule, tools, on_error=partial(unread.setdefault, uid)):
            encoded = engine.read(scan)
            likelihood = encoded.prediction.likelihood_of_malignancy
            frames.append(tools.queried_frame(sop_instance_uid=uid, frame=frame + 1, malignant=likelihood or 0.0))
            # As in `sonoseek.engine`: what is out of distribution, such as a still of text, counts only alone.
            rank = not encoded.prediction.out_of_distribution, -1.0 if likelihood is None else likelihood
            if best is None or rank > best[0]:
                best = rank, uid, frame, encoded
    if best is None:
        reasons = "; ".join(sorted(set(unread.values()))[:3])
        raise ScanReadError(f"none of the {len(claim.files)} pictures of the study can be read: {reasons}")
    _, uid, frame, encoded = best
    header = tools.read_source_header(path(str(dict(claim.files)[uid])))
    report = engine.query(encoded)
    results = tools.render(report, header, kinds=rule.results, study_key=claim.key, queried=tuple(frames))
    if not results:
        raise SonoseekError(f"no object was made of the kinds {', '.join(rule.results)}; check `results` of the rule.")
    finding = Finding(malignant=encoded.prediction.likelihood_of_malignancy, sop_uid=uid, frame=frame + 1)
    message = ""
    if unread:
        first = next(iter(unread.values()))
        message = f"{len(unread)} of {len(claim.files)} pictures could not be read, or not every frame: {first}"
    return results, finding, message


def _scans(file: Path, rule: Rule, tools: Tools, *, on_error: Callable[[str], object]) -> Iterator[tuple[int, Any]]:
    """The chosen frames of a file, 0-based, each with its scan; those that cannot be read are reported and left out."""
    first = None
    try:
        if rule.frames != "middle":  # the first one also says how many there are
            first = tools.read_scan(file, frame=0)
    except ScanReadError as error:
        on_error(_reason(error))
    try:
        count = tools.frame_count(file) if first is None else first.frames or 1
    except ScanReadError as error:
        on_error(_reason(error))
        return
    for frame in choose_frames(count, rule.frames, rule.max_frames):
        if frame == 0 and rule.frames != "middle":
            if first is not None:
                yield frame, first
            continue
        try:
            scan = tools.read_scan(file, frame=frame)
        except ScanReadError as error:
            on_error(_reason(error))
        else:
            yield frame, scan


def _reason(error: ScanReadError) -> str:
    """What is wrong with a file, without its name, which is a hash."""
    return str(error).partition(": ")[2] or str(error)
