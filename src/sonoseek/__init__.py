"""sonoseek: a search engine for breast ultrasound. Research use only, not for diagnosis.

One scan goes in; one `Report` comes out. It has the calibrated likelihood of malignancy and the likeliest class (or
"not sure"), the most similar past cases with their reference standard, and the pixels that both rest on.

    import sonoseek as ss
    ss.build_gallery("archive", "galleries/ours")              # a folder per class, or a CSV table
    engine = ss.open_engine("galleries/ours")
    report = engine.query(ss.read_scan("exam.dcm"), k=10)
    ss.write_report(report, "report.html")

Importing this package imports numpy at most. Everything else is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "__version__": "sonoseek.core.version",
    "read_scan": "sonoseek.io",
    "preprocess": "sonoseek.preprocessing",
    "open_dataset": "sonoseek.datasets",
    "load_bundle": "sonoseek.encoder",
    "open_encoder": "sonoseek.encoder",
    "build_gallery": "sonoseek.indexing",
    "open_gallery": "sonoseek.gallery",
    "open_engine": "sonoseek.engine",
    "SearchEngine": "sonoseek.engine",
    "write_report": "sonoseek.reports",
    "calibrate_archive": "sonoseek.evaluate.archive_fit",
    "Scan": "sonoseek.core",
    "Box": "sonoseek.core",
    "SearchOptions": "sonoseek.core",
    "Case": "sonoseek.core",
    "CaseRecord": "sonoseek.core",
    "Prediction": "sonoseek.core",
    "Match": "sonoseek.core",
    "Explanation": "sonoseek.core",
    "Report": "sonoseek.core",
    "Settings": "sonoseek.core",
    "SonoseekError": "sonoseek.core",
}
"""Public name → module that defines it."""
_MODULES = {"errors": "sonoseek.core.errors", "evaluate": "sonoseek.evaluate"}
"""Public name → module that it is. The functions of `evaluate` need the extra of that name and say so."""

__all__ = [*_WHERE, *_MODULES]

if TYPE_CHECKING:
    from sonoseek import evaluate as evaluate
    from sonoseek.core import Box as Box
    from sonoseek.core import Case as Case
    from sonoseek.core import CaseRecord as CaseRecord
    from sonoseek.core import Explanation as Explanation
    from sonoseek.core import Match as Match
    from sonoseek.core import Prediction as Prediction
    from sonoseek.core import Report as Report
    from sonoseek.core import Scan as Scan
    from sonoseek.core import SearchOptions as SearchOptions
    from sonoseek.core import Settings as Settings
    from sonoseek.core import SonoseekError as SonoseekError
    from sonoseek.core import errors as errors
    from sonoseek.core.version import __version__ as __version__
    from sonoseek.datasets import open_dataset as open_dataset
    from sonoseek.encoder import load_bundle as load_bundle
    from sonoseek.encoder import open_encoder as open_encoder
    from sonoseek.engine import SearchEngine as SearchEngine
    from sonoseek.engine import open_engine as open_engine
    from sonoseek.evaluate.archive_fit import calibrate_archive as calibrate_archive
    from sonoseek.gallery import open_gallery as open_gallery
    from sonoseek.indexing import build_gallery as build_gallery
    from sonoseek.io import read_scan as read_scan
    from sonoseek.preprocessing import preprocess as preprocess
    from sonoseek.reports import write_report as write_report


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'sonoseek' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
