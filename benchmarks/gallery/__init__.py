"""How a gallery behaves as it grows: synthetic embeddings, our engine, its peers, the page, and what scale costs."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Folder in which `python -m benchmarks.gallery...` finds this package."""
