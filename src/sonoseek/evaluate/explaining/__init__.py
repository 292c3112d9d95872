"""Heatmaps, measured: localisation, faithfulness and sanity.

Masks are used here alone, to score; no method sees one.
"""

from sonoseek.evaluate.explaining.run import explain_rounds
from sonoseek.evaluate.explaining.summary import rescore_explanations

__all__ = ["explain_rounds", "rescore_explanations"]
