/** Short names for the server's types; `npm run types` generates them into openapi.ts. */
import type { components } from "./openapi";

type Schemas = components["schemas"];
export type Label = Schemas["ArchivedCase"]["label"];
export type Box = Schemas["BoxModel"];
export type About = Schemas["About"];
export type Archive = Schemas["Archive"];
export type ArchiveProjection = Schemas["ArchiveProjection"];
export type ArchivedCase = Schemas["ArchivedCase"];
export type Upload = Schemas["Upload"];
export type FramePrediction = Schemas["FramePrediction"];
export type FrameEnd = Schemas["FrameEnd"];
export type OpenedRow = Schemas["OpenedRow"];
export type Job = Schemas["BatchJob"];
export type JobKind = Job["kind"];
export type JobOptions = Schemas["JobOptions"];
export type JobRow = Schemas["JobRow"];
export type WorklistPage = Schemas["WorklistPage"];
export type WorklistStudy = Schemas["WorklistStudy"];
export type WorklistEntry = Schemas["WorklistEntry"];
export type WorklistDecision = Schemas["WorklistDecision"];
export type Report = Schemas["Report"];
export type ReportText = Schemas["ReportText"];
export type Match = Report["matches"][number];
export type Explanation = Report["explanations"][number];
