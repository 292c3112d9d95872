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

import lazy_loader

TYPE_CHECKING = False  # editors and mypy take it for true; importing typing takes three times as long as all of this

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    ["evaluate"],  # its functions need the extra of that name and say so
    {
        "core": ["Box", "Explanation", "Match", "Prediction", "Report", "Scan", "SearchOptions", "Settings", "errors"],
        "core.case": ["Case", "CaseRecord"],
        "core.errors": ["SonoseekError"],
        "core.version": ["__version__"],
        "datasets": ["open_dataset"],
        "encoder": ["load_bundle", "open_encoder"],
        "engine": ["SearchEngine", "open_engine"],
        "evaluate.archive_fit": ["calibrate_archive"],
        "gallery": ["open_gallery"],
        "indexing": ["build_gallery"],
        "io": ["read_scan"],
        "preprocessing": ["preprocess"],
        "reports": ["write_report"],
    },
)

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
