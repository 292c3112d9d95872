"""Cleaning: from a scan as it was exported to the canvas a network reads, with the mapping back."""

from sonoseek.cleaning.canvas import CleanedScan, clean
from sonoseek.cleaning.mapping import CanvasMapping
from sonoseek.cleaning.recipe import CleaningRecipe
from sonoseek.cleaning.sheet import contact_sheet

__all__ = ["CanvasMapping", "CleanedScan", "CleaningRecipe", "clean", "contact_sheet"]
