/** The views of a report's lesion: its scan first, then the further ones. */
import type { Explanation, Report } from "./types";

export const viewsOf = (report: Report) => [report, ...report.views];

/** Per view, what its pixels contribute to the similarity with a match, and its number in that view's list. */
export function pairsOf(report: Report, scanId: string): ({ number: number; explanation: Explanation } | null)[] {
  return viewsOf(report).map(({ explanations }) => {
    const number = explanations.findIndex((each) => each.target === `match:${scanId}`);
    return number < 0 ? null : { number, explanation: explanations[number]! };
  });
}

/** The view whose pixels contribute most to the similarity; the first where none was explained. */
export function strongestView(pairs: ReturnType<typeof pairsOf>): number {
  const sums = pairs.map((pair) => pair?.explanation.sum ?? -Infinity);
  return sums.indexOf(Math.max(...sums));
}
