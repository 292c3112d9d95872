"""Child processes that parse foreign files, within limits of time, memory, files, processes and network.

`request_reply({"job": "read", …}, file=…)` has one of them answer; `start_readers()` starts them ahead of need.
"""

from sonoseek.io.sandbox.pool import (
    ReaderDiedError,
    ReaderTimeoutError,
    child_environment,
    close_readers,
    protections,
    request_reply,
    start_readers,
)

__all__ = [
    "ReaderDiedError",
    "ReaderTimeoutError",
    "child_environment",
    "close_readers",
    "protections",
    "request_reply",
    "start_readers",
]
