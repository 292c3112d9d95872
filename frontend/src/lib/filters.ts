/** The filter's controls, and the words of the filter language that they stand for. */
import type { Label } from "./types";

export interface Filter {
  labels: Label[];
  birads: string;
  device: string;
  dataset: string;
  /** What no control can say; joined by "and". */
  more: string;
}

export const NO_FILTER: Filter = { labels: [], birads: "", device: "", dataset: "", more: "" };
const LABELS: Label[] = ["normal", "benign", "malignant"];
const TEXT = String.raw`'((?:[^']|'')*)'`;

export function toWhere(filter: Filter): string {
  const parts: string[] = [];
  if (filter.labels.length && filter.labels.length < LABELS.length) {
    parts.push(`label in (${LABELS.filter((each) => filter.labels.includes(each)).map(quote).join(", ")})`);
  }
  if (filter.birads) parts.push(`birads >= ${quote(filter.birads)}`);
  if (filter.device) parts.push(`device = ${quote(filter.device)}`);
  if (filter.dataset) parts.push(`dataset = ${quote(filter.dataset)}`);
  const more = filter.more.trim();
  if (more) parts.push(parts.length ? `(${more})` : more);
  return parts.join(" and ");
}

/** The controls for a filter: what they cannot show stays as text. */
export function fromWhere(where: string): Filter {
  const filter: Filter = { ...NO_FILTER, labels: [] };
  let rest = where.trim();
  const take = (pattern: string): RegExpExecArray | null => {
    const found = new RegExp(`^${pattern}(?: and |$)`).exec(rest);
    if (found) rest = rest.slice(found[0].length);
    return found;
  };
  const labels = take(String.raw`label in \(((?:'(?:normal|benign|malignant)'(?:, )?)+)\)`);
  if (labels) filter.labels = LABELS.filter((each) => labels[1]?.includes(quote(each)));
  filter.birads = unquote(take(`birads >= ${TEXT}`)?.[1]);
  filter.device = unquote(take(`device = ${TEXT}`)?.[1]);
  filter.dataset = unquote(take(`dataset = ${TEXT}`)?.[1]);
  const wrapped = /^\((.*)\)$/s.exec(rest);
  filter.more = rest;
  if (wrapped?.[1] !== undefined && rest !== where.trim()) filter.more = wrapped[1];
  return toWhere(filter) === where.trim() ? filter : { ...NO_FILTER, labels: [], more: where.trim() };
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function unquote(text: string | undefined): string {
  return (text ?? "").replaceAll("''", "'");
}
