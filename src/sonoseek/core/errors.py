"""The errors of sonoseek, `ss.errors`. Each is a `SonoseekError` and also the builtin error a caller would expect.

    SonoseekError                      Exception
    ├── InvalidValueError              ValueError       an argument breaks a rule of the interface
    ├── NotFoundError                  LookupError      no such name, id or path
    ├── MissingExtraError              ImportError      an optional dependency is not installed
    ├── ScanReadError                  ValueError       a file cannot be read as a scan
    │   └── ScanTooLargeError          ValueError       a file exceeds the limits of `Settings`
    ├── DatasetError                   ValueError       a dataset does not have its published layout
    ├── SplitError                     ValueError       a split would separate a group, or cannot be made
    ├── ResultsError                   ValueError       files of results are incomplete or contradict each other
    ├── TrainingError                  RuntimeError     a training run diverged, or its processes disagree
    ├── BundleError                    ValueError       a bundle is incomplete, damaged or of an unknown version
    ├── BundleMismatchError            ValueError       another bundle filled the gallery
    ├── GalleryError                   RuntimeError     a gallery is damaged, of another schema, or used wrongly
    ├── WhereError                     ValueError       a `where` filter does not parse
    ├── SiteKeyError                   RuntimeError     the key of pseudonyms is damaged, readable by others or another
    ├── PeerError                      RuntimeError     a PACS refuses: AE title, operation, certificate, login
    └── TemporaryError                 ConnectionError  a locked gallery, a silent server: try again

Each message gives the value, the rule that it breaks, and the remedy.
"""


class SonoseekError(Exception):
    """Base class of every error that sonoseek raises on purpose."""


class InvalidValueError(SonoseekError, ValueError):
    """A value breaks a rule of the interface."""


class NotFoundError(SonoseekError, LookupError):
    """There is no such name, id or path."""


class MissingExtraError(SonoseekError, ImportError):
    """An optional dependency is not installed."""

    @classmethod
    def for_package(cls, *packages: str, extra: str) -> "MissingExtraError":
        """Name the extra that installs `packages`."""
        named = ", ".join(map(repr, packages))
        one = len(packages) == 1
        return cls(
            f"the {'package' if one else 'packages'} {named} {'is' if one else 'are'} not installed; "
            f"{'it belongs' if one else 'they belong'} to an optional part of sonoseek. "
            f'Install it from the folder of its source with: pip install ".[{extra}]"'
        )


class ScanReadError(SonoseekError, ValueError):
    """A file cannot be read as a scan: it is truncated, not an image, empty, a directory or unsupported."""


class ScanTooLargeError(ScanReadError):
    """A file, or the image that its header announces, is larger than the limits in `Settings`."""


class DatasetError(SonoseekError, ValueError):
    """A dataset folder does not have the layout that its source publishes."""


class SplitError(SonoseekError, ValueError):
    """A split would separate the scans of one group, or cannot be made."""


class ResultsError(SonoseekError, ValueError):
    """Files of an evaluation's results are incomplete, damaged or contradict each other."""


class TrainingError(SonoseekError, RuntimeError):
    """A training run failed: its loss diverged, or its processes hold different weights."""


class BundleError(SonoseekError, ValueError):
    """A bundle is incomplete, damaged or of an unknown version."""


class BundleMismatchError(SonoseekError, ValueError):
    """The gallery was filled by another bundle than the one in use."""


class GalleryError(SonoseekError, RuntimeError):
    """A gallery is damaged, of another schema version, or used wrongly."""


class WhereError(SonoseekError, ValueError):
    """A `where` filter does not parse or names an unknown column."""


class SiteKeyError(SonoseekError, RuntimeError):
    """The site key is damaged, other users can read it, or it is not the one that a gallery's pseudonyms have."""


class PeerError(SonoseekError, RuntimeError):
    """A PACS or a DICOMweb server refuses: an AE title, an operation, a certificate, a login. It will refuse again."""


class TemporaryError(SonoseekError, ConnectionError):
    """A temporary failure: a locked gallery, or a server that does not answer. The same call may succeed later."""
