"""The query pipeline: a scan goes in, a Report comes out.

    engine = open_engine("galleries/busi")
    report = engine.query(read_scan("exam.dcm"), k=10)

Command line, web page and evaluation all query through this package.
"""

from __future__ import annotations

from pathlib import Path

from sonoseek.core import Settings
from sonoseek.encoder import Bundle, open_encoder, shipped_bundle
from sonoseek.engine.encoded_scan import EncodedScan
from sonoseek.engine.search_engine import SearchEngine
from sonoseek.gallery import open_gallery
from sonoseek.gallery.calibration_file import read_calibration

__all__ = ["EncodedScan", "SearchEngine", "open_engine"]


def open_engine(
    gallery: Path | str | None = None,
    *,
    bundle: Bundle | Path | str | None = None,
    threads: int = 0,
    calibration: bool = True,
) -> SearchEngine:
    """Open everything that a query needs.

    Args:
        gallery: where it lies ("galleries/busi", "milvus://host:19530/name"), opened for reading; None: prediction
            and heatmap alone.
        bundle: a bundle, its folder, or the name of one that ships ("accurate", "fast"); None: the one that
            `SONOSEEK_BUNDLE` names, else the shipped one that filled the gallery, else the default.
        threads: cores for the network; 0: as `SONOSEEK_THREADS` says, else all.
        calibration: predict by the calibration that lies beside the gallery, where `sonoseek calibrate` stored one;
            False, or none there: by the bundle's.

    Raises:
        BundleError: the bundle is incomplete, damaged, or of an unknown version.
        BundleMismatchError: another bundle filled the gallery.
        NotFoundError, GalleryError, TemporaryError: as `open_gallery`; GalleryError also where the calibration beside
            the gallery is damaged, or another gallery's.
    """
    opened = None if gallery is None else open_gallery(gallery)
    try:
        if bundle is None and opened is not None:
            bundle = shipped_bundle(opened.bundle_id)
        fitted = read_calibration(opened) if opened is not None and calibration else None
        encoder = open_encoder(bundle, threads=threads or Settings.from_environment().threads)
        return SearchEngine(encoder, opened, calibration=fitted)
    except BaseException:
        if opened is not None:
            opened.close()
        raise
