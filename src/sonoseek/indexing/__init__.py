"""Fill a gallery from a dataset, check a sample of it again, and lay its embeddings out in the plane.

`build_gallery` does it in one call. `build` fills a gallery on one machine and `ray` on many; `recheck` encodes a
sample of the stored scans again; `projection` maps the embeddings to two coordinates.
"""

from sonoseek.indexing.build import BuildResult, build_index, make_entry
from sonoseek.indexing.gallery import build_gallery

__all__ = ["BuildResult", "build_gallery", "build_index", "make_entry"]
