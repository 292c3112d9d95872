"""Protocols, metrics and timings. It walks the same engine that serves: no short cut flatters."""

from sonoseek.core import LazyTable
from sonoseek.evaluate.protocols import Protocol
from sonoseek.evaluate.results import ProtocolResults, write_results
from sonoseek.evaluate.run import run_protocol

PROTOCOLS = LazyTable("protocol", {"busi-grouped": "sonoseek.evaluate.protocols.busi_grouped:BusiGrouped"})

__all__ = ["PROTOCOLS", "Protocol", "ProtocolResults", "run_protocol", "write_results"]
