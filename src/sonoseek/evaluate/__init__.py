"""The benchmark: protocols, systems, metrics, comparisons, timings. It runs the same engine that serves.

    context = open_context(PROTOCOLS.load("busi-grouped")(), data_root=data, cache=runs / "near-duplicates")
    folder = evaluate(context, SYSTEMS.load("radiomics")(), runs=runs, out=Path("docs/results"))
    rescore(Path("docs/results"))

Importing this package is cheap; the first call brings numpy's friends (extra `evaluate`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lazy_loader

from sonoseek.core import LazyTable, from_extra

PROTOCOLS = LazyTable(
    "protocol",
    {
        "busi-grouped": "sonoseek.evaluate.protocols.busi_grouped:BusiGrouped",
        "busi-clean": "sonoseek.evaluate.protocols.busi_clean:BusiClean",
        "busi-curated": "sonoseek.evaluate.protocols.busi_curated:BusiCurated",
        "busbra-official": "sonoseek.evaluate.protocols.busbra_official:BusbraOfficial",
        "leave-one-hospital-out": "sonoseek.evaluate.protocols.leave_one_hospital_out:LeaveOneHospitalOut",
        "reader-marked": "sonoseek.evaluate.protocols.reader_marked:ReaderMarked",
        "external": "sonoseek.evaluate.protocols.external:External",
        "random-split": "sonoseek.evaluate.protocols.random_split:RandomSplit",
        "paper-like": "sonoseek.evaluate.protocols.paper_like:PaperLike",
    },
)
"""Name → class; built without arguments, but for `external`."""

SYSTEMS = LazyTable(
    "system",
    {
        "nearest-pixels": "sonoseek.evaluate.systems.nearest_pixels:NearestPixels",
        "radiomics": "sonoseek.evaluate.systems.radiomics:radiomics",
    },
    extra="evaluate",
)
"""Peers that need no torch: name → what makes one, with a folder as `cache`. Networks come from `training.systems`."""

_load, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"context": ["open_context"], "run": ["evaluate"], "rescoring": ["rescore"]},
)
__all__ += ["PROTOCOLS", "SYSTEMS"]

if TYPE_CHECKING:
    from sonoseek.evaluate.context import open_context as open_context
    from sonoseek.evaluate.rescoring import rescore as rescore
    from sonoseek.evaluate.run import evaluate as evaluate


def __getattr__(name: str) -> Any:
    with from_extra("evaluate"):
        return _load(name)
