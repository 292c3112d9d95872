"""The audit of a dataset: copies of the same scan, labels at odds, marks and masks that tell, splits that part copies.

    result = audit(dataset, folds=stratified_group_folds(dataset.records()))
    write_audit_page(result, dataset, "audit.html")
    write_groups_csv(result, "groups.csv")

What the audit can see is the same *picture* again: shifted, cropped, rescaled, mirrored, turned, marked or saved anew;
and neighbouring frames of one sweep, which it lists apart. It cannot see that two different pictures are of one
patient.
"""

from sonoseek.datasets.audit.groups_csv import write_groups_csv
from sonoseek.datasets.audit.page import write_audit_page
from sonoseek.datasets.audit.result import (
    AuditResult,
    Crossing,
    DuplicateGroup,
    DuplicatePair,
    LabelLeak,
    Unreadable,
)
from sonoseek.datasets.audit.survey import audit

__all__ = [
    "audit",
    "write_audit_page",
    "write_groups_csv",
    "AuditResult",
    "DuplicatePair",
    "DuplicateGroup",
    "Crossing",
    "LabelLeak",
    "Unreadable",
]
