"""Values, errors, settings and the lazy table of names. Depends on numpy alone."""

from sonoseek.core.case import BIRADS_CATEGORIES, DESCRIPTORS, PATHOLOGIES, Case, CaseRecord
from sonoseek.core.contour import Contour
from sonoseek.core.errors import (
    BundleError,
    BundleMismatchError,
    DatasetError,
    GalleryError,
    InvalidValueError,
    MissingExtraError,
    NotFoundError,
    PeerError,
    ResultsError,
    ScanReadError,
    ScanTooLargeError,
    SiteKeyError,
    SonoseekError,
    SplitError,
    TemporaryError,
    TrainingError,
    WhereError,
)
from sonoseek.core.extras import from_extra, require_extra
from sonoseek.core.geometry import Box
from sonoseek.core.prediction import CalibrationSource, OperatingPoint, Prediction
from sonoseek.core.registry import LazyTable
from sonoseek.core.results import (
    DISCLAIMER,
    SEVERITIES,
    ExcludedCounts,
    Explanation,
    LabelCounts,
    Match,
    Report,
    ReportWarning,
    Severity,
    SharedDescriptor,
    View,
)
from sonoseek.core.scan import Scan
from sonoseek.core.search_options import SearchKeywords, SearchOptions
from sonoseek.core.settings import Settings
from sonoseek.core.upsampling import Upsampling

__all__ = [
    "Scan",
    "Case",
    "CaseRecord",
    "PATHOLOGIES",
    "BIRADS_CATEGORIES",
    "DESCRIPTORS",
    "Box",
    "Prediction",
    "Match",
    "Explanation",
    "Upsampling",
    "Contour",
    "SharedDescriptor",
    "OperatingPoint",
    "CalibrationSource",
    "LabelCounts",
    "ExcludedCounts",
    "ReportWarning",
    "Severity",
    "SEVERITIES",
    "View",
    "Report",
    "DISCLAIMER",
    "SearchOptions",
    "SearchKeywords",
    "Settings",
    "LazyTable",
    "from_extra",
    "require_extra",
    "SonoseekError",
    "InvalidValueError",
    "NotFoundError",
    "PeerError",
    "MissingExtraError",
    "ScanReadError",
    "ScanTooLargeError",
    "DatasetError",
    "SplitError",
    "ResultsError",
    "TrainingError",
    "BundleError",
    "BundleMismatchError",
    "GalleryError",
    "WhereError",
    "SiteKeyError",
    "TemporaryError",
]
