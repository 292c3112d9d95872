/** What the server answers; see its /openapi.json. */

export type Label = "normal" | "benign" | "malignant";

export interface Box {
  top: number;
  left: number;
  bottom: number;
  right: number;
}

export interface ScanInfo {
  scan_id: string;
  height: number;
  width: number;
  spacing_mm: [number, number] | null;
  laterality: string | null;
  view: string | null;
  frame: number | null;
  frames: number | null;
  patient_id: string | null;
  source: string;
}

export interface OperatingPoint {
  name: string;
  threshold: number;
  sensitivity: number;
  specificity: number;
  reached: boolean;
}

export interface Prediction {
  likelihood_of_malignancy: number | null;
  operating_points: OperatingPoint[];
  fitted_on: string;
  calibration: {
    source: "bundle" | "archive";
    cases: number | null;
    fitted: string | null;
    bundle_points: string[];
    text: string;
  };
  likeliest: Label;
  label: Label | null;
  probabilities: Record<string, number>;
  prediction_set: { coverage: number; classes: Label[] };
  entropy: number;
  ood_score: number | null;
}

export interface ReportWarning {
  severity: "high" | "medium" | "low";
  code: string;
  text: string;
}

export interface LabelCounts {
  labels: Record<string, number>;
  total: number;
}

export interface Explanation {
  target: string;
  method: string;
  exact: boolean;
  value: number;
  bias: number;
  sum: number;
  peak: number;
  shape: [number, number];
}

export interface Match {
  rank: number;
  case_id: string;
  scan_id: string;
  dataset: string;
  label: Label;
  pathology_proven: boolean;
  similarity: number;
  birads: string | null;
  histology: string | null;
  device: string | null;
  patient_id: string | null;
  group: string | null;
  near_duplicates: number;
  same_patient: number;
  descriptors: { feature: string; descriptor: string }[];
  explanation: Explanation | null;
}

export interface Contour {
  points: [number, number][];
  longest_mm: number | null;
}

export interface Report {
  disclaimer: string;
  headline: string;
  version: string;
  created: string;
  bundle_id: string;
  gallery_id: string | null;
  gallery_state: string | null;
  where: string | null;
  scan: ScanInfo;
  prediction: Prediction;
  views: { scan: ScanInfo; prediction: Prediction; explanations: Explanation[] }[];
  region: Box | null;
  crop: Box | null;
  /** The reader's mark. */
  lesion: Box | null;
  similar_cases: LabelCounts & { agreement: number | null };
  hidden_by_filter: LabelCounts | null;
  novelty: number | null;
  warnings: ReportWarning[];
  matches: Match[];
  explanations: Explanation[];
  contour: Contour | null;
}

export interface Preprocessing {
  crop: Box;
  manual_crop: boolean;
  canvas: number;
  content: Box;
  burned_in_annotations: number;
  archived: boolean;
  warnings: string[];
}

/** The report in the sentences that every format carries. */
export interface Said {
  headline: string;
  short_headline: string;
  tone: Label | "unsure";
  likeliest: string;
  prediction_set: string;
  thresholds: string;
  calibration: string;
  similar_cases: string;
  filtered: string;
  left_out: string;
  no_matches: string;
  novelty: string;
  size: string;
  contour: string | null;
  shared_descriptors: string[];
  region: string | null;
  crop: string | null;
  lesion: string | null;
  refined: string | null;
  titles: string[];
  preprocessing: Preprocessing[];
  name: string;
  frames: number;
  frame: number;
  /** Of each further view. */
  views: { name: string; size: string; headline: string }[];
}

export interface About {
  disclaimer: string;
  version: string;
  bundle_id: string;
  calibration: string;
  classes: Label[];
  /** Whether the network can be told where the lesion lies. */
  reads_marks: boolean;
  abstain_below: number;
  gallery_id: string;
  gallery_state: string;
  scans: number;
  cases: number;
  writable: boolean;
  folders: boolean;
  max_upload_bytes: number;
  max_k: number;
  max_views: number;
  cache_minutes: number;
  batch_retention_hours: number;
}

export interface Archive {
  gallery_id: string;
  gallery_state: string;
  scans: number;
  cases: number;
  by_label: Record<string, number>;
  by_birads: Record<string, number>;
  by_device: Record<string, number>;
  by_dataset: Record<string, number>;
  index: string;
  bytes: number;
  created: string;
}

export interface ArchiveMap {
  state: string;
  total: number;
  explained_variance_ratio: [number, number];
  labels: Label[];
  datasets: string[];
  x: number[];
  y: number[];
  label: number[];
  dataset: number[];
  case_id: string[];
}

export interface CaseInfo {
  dataset: string;
  case_id: string;
  label: Label;
  birads: string | null;
  histology: string | null;
  device: string | null;
  patient_id: string | null;
  group: string | null;
  age_years: number | null;
  acquired: string | null;
  licence: string;
  descriptors: { feature: string; descriptor: string }[];
  scans: {
    scan_id: string;
    height: number;
    width: number;
    spacing_mm: [number, number] | null;
    laterality: string | null;
    view: string | null;
    has_picture: boolean;
    has_evidence: boolean;
  }[];
}

export type JobKind = "query" | "evaluate" | "index";

export interface Job {
  job_id: string;
  kind: JobKind;
  state: "receiving" | "waiting" | "running" | "done" | "stopped" | "failed";
  title: string;
  total: number;
  done: number;
  refused: number;
  seconds_left: number | null;
  created: string;
  error: string;
  summary: Record<string, unknown>;
  /** Whether its files are on the server, so that its rows can be opened. */
  openable: boolean;
}

export interface JobOptions {
  k?: number;
  where?: string | null;
  per_patient?: boolean;
  deduplicate?: boolean;
}

export interface Upload {
  upload_id: string;
  name: string;
  bytes: number;
  frames: number;
}

export interface JobRow {
  number: number;
  name: string;
  refused: string | null;
  outcome: {
    headline?: string;
    not_ruled_out?: boolean;
    out_of_distribution?: boolean;
    seen_in_training?: boolean;
    label?: Label | null;
    likeliest?: Label;
    reference?: Label;
    probabilities?: Record<string, number>;
    match?: { dataset: string; case_id: string; label: Label; similarity: number } | null;
    warnings?: string[];
  };
}
