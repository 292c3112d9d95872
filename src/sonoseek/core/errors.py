"""The errors of sonoseek. Each is a `SonoseekError` and also the builtin a caller would expect.

A message says three things: the value that was met, the rule it breaks, and the remedy.
"""


class SonoseekError(Exception):
    """Base of every error that sonoseek raises on purpose."""


class InvalidValueError(SonoseekError, ValueError):
    """A value breaks a rule of the interface."""


class NotFoundError(SonoseekError, LookupError):
    """A name, an id or a path that is not there."""


class MissingExtraError(SonoseekError, ImportError):
    """An optional dependency is not installed."""

    @classmethod
    def for_package(cls, *packages: str, extra: str) -> "MissingExtraError":
        """Say which extra brings `packages`."""
        named = ", ".join(map(repr, packages))
        one = len(packages) == 1
        return cls(
            f"the {'package' if one else 'packages'} {named} {'is' if one else 'are'} not installed; "
            f"{'it belongs' if one else 'they belong'} to an optional part of sonoseek. "
            f'Install it from the folder of its source with: pip install ".[{extra}]"'
        )


class ScanReadError(SonoseekError, ValueError):
    """A file that cannot be read as a scan: truncated, not an image, empty, a directory, unsupported."""


class ScanTooLargeError(ScanReadError):
    """A file that is, or claims to be, larger than the limits in `Settings`."""


class DatasetError(SonoseekError, ValueError):
    """A dataset folder that does not have the layout its source publishes."""


class SplitError(SonoseekError, ValueError):
    """A split that would part a group, or cannot be made."""


class ResultsError(SonoseekError, ValueError):
    """Files of an evaluation's results that are incomplete, damaged or contradict each other."""


class TrainingError(SonoseekError, RuntimeError):
    """A training run that went wrong on the way: its loss diverged, or its processes hold different weights."""


class BundleError(SonoseekError, ValueError):
    """A bundle that is incomplete, damaged or of an unknown version."""


class BundleMismatchError(SonoseekError, ValueError):
    """A gallery filled by another bundle than the one that asks."""


class GalleryError(SonoseekError, RuntimeError):
    """A gallery file that is damaged, of another schema, or used wrongly."""


class WhereError(SonoseekError, ValueError):
    """A `where` filter that does not parse or names an unknown column."""


class TemporaryError(SonoseekError, ConnectionError):
    """Trouble that may pass: a locked gallery, a server that does not answer. Trying again is sensible."""
