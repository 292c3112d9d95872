/** How evidence is shown: one choice for every scan, remembered from visit to visit. */

interface Choice {
  /** Whether evidence is shown at all. */
  heat: boolean;
  /** Whether the outline of the strongest evidence is. */
  outline: boolean;
  /** Percent, of the map over the scan and of the maps over a pair. */
  opacity: number;
  pairOpacity: number;
}

/** The outline with a faint map: the tissue beneath stays readable. A pair has no outline, so its map is stronger. */
export const FIRST: Choice = { heat: true, outline: true, opacity: 25, pairOpacity: 65 };

/** What was remembered, held to its ranges: anybody may have written it. */
export function choiceOf(text: string | null): Choice {
  let told: Partial<Record<keyof Choice, unknown>> = {};
  try {
    told = Object(JSON.parse(text ?? "{}"));
  } catch {
    // not ours
  }
  const yes = (value: unknown, first: boolean) => (typeof value === "boolean" ? value : first);
  const share = (value: unknown, first: number) =>
    typeof value === "number" && value >= 0 && value <= 100 ? value : first;
  return {
    heat: yes(told.heat, FIRST.heat),
    outline: yes(told.outline, FIRST.outline),
    opacity: share(told.opacity, FIRST.opacity),
    pairOpacity: share(told.pairOpacity, FIRST.pairOpacity),
  };
}

export function stored(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function store(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // a browser that keeps nothing: it lasts as long as the page
  }
}

const first = choiceOf(stored("evidence"));

class Looks {
  heat = $state(first.heat);
  outline = $state(first.outline);
  opacity = $state(first.opacity);
  pairOpacity = $state(first.pairOpacity);

  /** Keep it for the next visit; called from an effect, again whenever something of it changes. */
  remember(): void {
    const { heat, outline, opacity, pairOpacity } = this;
    store("evidence", JSON.stringify({ heat, outline, opacity, pairOpacity } satisfies Choice));
  }
}

export const looks = new Looks();
