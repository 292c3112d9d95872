"""The network without its training: a bundle or an ensemble of them, ONNX Runtime, and the prediction. No torch."""

from sonoseek.encoder.archive_calibration import ArchiveCalibration, calibrated
from sonoseek.encoder.bundle import bundle_folder, is_bundle, load_bundle, shipped_bundle
from sonoseek.encoder.canvas_input import PADDING, to_input
from sonoseek.encoder.ensemble_encoder import EnsembleEncoder, open_encoder, typical_norm
from sonoseek.encoder.onnx_encoder import NO_MARK, Encoder, Encoding, OnnxEncoder, encode_scan, encode_scans
from sonoseek.encoder.ood import ood_score
from sonoseek.encoder.packed import StoredEvidence, evidence_problem, pack_evidence, unpack_evidence
from sonoseek.encoder.prediction import predict
from sonoseek.encoder.seen import SeenScan, TrainingScans
from sonoseek.encoder.values import Bundle, Member, OODModel
from sonoseek.encoder.write_ensemble import write_ensemble

__all__ = [
    "Bundle",
    "ArchiveCalibration",
    "calibrated",
    "Member",
    "OODModel",
    "SeenScan",
    "TrainingScans",
    "load_bundle",
    "is_bundle",
    "bundle_folder",
    "shipped_bundle",
    "Encoder",
    "Encoding",
    "OnnxEncoder",
    "encode_scan",
    "encode_scans",
    "EnsembleEncoder",
    "open_encoder",
    "typical_norm",
    "write_ensemble",
    "to_input",
    "pack_evidence",
    "unpack_evidence",
    "evidence_problem",
    "StoredEvidence",
    "PADDING",
    "NO_MARK",
    "predict",
    "ood_score",
]
