"""A simulated breast ultrasound with a known lesion."""

from sonoseek.datasets.phantom.dataset import PhantomDataset
from sonoseek.datasets.phantom.plan import PhantomPlan, plan_phantom
from sonoseek.datasets.phantom.render import PhantomTruth, make_phantom, render_plan, truth_of
from sonoseek.datasets.phantom.scanners import SCANNERS, Scanner

__all__ = [
    "make_phantom",
    "PhantomDataset",
    "SCANNERS",
    "Scanner",
    "PhantomPlan",
    "PhantomTruth",
    "plan_phantom",
    "render_plan",
    "truth_of",
]
