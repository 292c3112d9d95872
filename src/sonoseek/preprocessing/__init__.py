"""Cleaning: from a scan as it was exported to the canvas a network reads, with the mapping back."""

from sonoseek.preprocessing.mapping import CanvasMapping
from sonoseek.preprocessing.model_input import CleanedScan, clean
from sonoseek.preprocessing.recipe import CleaningRecipe
from sonoseek.preprocessing.sheet import contact_sheet

__all__ = ["CanvasMapping", "CleanedScan", "CleaningRecipe", "clean", "contact_sheet"]
