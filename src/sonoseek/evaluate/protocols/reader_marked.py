"""A hospital left out, and a reader who marks the lesion: what marking it adds, under a name of its own."""

from __future__ import annotations

from sonoseek.evaluate.protocols.leave_one_hospital_out import LeaveOneHospitalOut


class ReaderMarked(LeaveOneHospitalOut):
    """The rounds of `LeaveOneHospitalOut`; each test scan with a drawn mask is read with a mark made from it.

    Attributes:
        reader_marks: True: test scans are read with the marks of `evaluate.reader_marks`; systems that read none are
            refused.
    """

    name = "reader-marked"
    title = "a hospital left out, lesions marked by a reader"
    description = (
        "NOT AUTOMATIC: a reader's mark is given. The rounds of leave-one-hospital-out, but each test scan is read "
        "with a box around its lesion: that of the drawn mask, its centre moved and its sides scaled by up to 15 %. "
        "Scans without a mask, the gallery and the validation side are read without a mark."
    )
    exclusions = (
        f"{LeaveOneHospitalOut.exclusions}; a scan without a mark is normal: figures of malignant "
        "against benign are the ones to read"
    )
    reader_marks = True
