"""A gallery in one SQLite file, with memory-mapped index files beside it."""
