"""Preprocessing: from a scan as it was exported to the canvas a network reads, with the mapping back."""

from sonoseek.preprocessing.mapping import CanvasMapping
from sonoseek.preprocessing.model_input import PreprocessedScan, preprocess
from sonoseek.preprocessing.recipe import PreprocessingRecipe
from sonoseek.preprocessing.sheet import contact_sheet

__all__ = ["CanvasMapping", "PreprocessedScan", "PreprocessingRecipe", "contact_sheet", "preprocess"]
