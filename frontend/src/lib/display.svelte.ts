/** Display settings of evidence maps: for every scan, stored in the browser. */

interface DisplaySettings {
  /** Whether evidence is shown at all. */
  heat: boolean;
  /** Whether the outline of the strongest evidence is. */
  outline: boolean;
  /** Percent, of the map over the scan and of the maps over a pair. */
  opacity: number;
  pairOpacity: number;
}

/** The outline with a faint map: the tissue beneath stays readable. A pair has no outline, so its map is stronger. */
export const DEFAULTS: DisplaySettings = { heat: true, outline: true, opacity: 25, pairOpacity: 65 };

/** Stored settings, validated. */
export function parseDisplay(text: string | null): DisplaySettings {
  let stored: Partial<Record<keyof DisplaySettings, unknown>> = {};
  try {
    stored = Object(JSON.parse(text ?? "{}"));
  } catch {
    // not valid
  }
  const yes = (value: unknown, first: boolean) => (typeof value === "boolean" ? value : first);
  const share = (value: unknown, first: number) =>
    typeof value === "number" && value >= 0 && value <= 100 ? value : first;
  return {
    heat: yes(stored.heat, DEFAULTS.heat),
    outline: yes(stored.outline, DEFAULTS.outline),
    opacity: share(stored.opacity, DEFAULTS.opacity),
    pairOpacity: share(stored.pairOpacity, DEFAULTS.pairOpacity),
  };
}

export function readStored(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function writeStored(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // storage is blocked: the settings last as long as the page
  }
}

type Theme = "dark" | "light";
const first = parseDisplay(readStored("evidence"));

class Display {
  heat = $state(first.heat);
  outline = $state(first.outline);
  opacity = $state(first.opacity);
  pairOpacity = $state(first.pairOpacity);
  theme = $state<Theme>(readStored("theme") === "light" ? "light" : "dark");

  setTheme(theme: Theme): void {
    this.theme = theme;
    document.documentElement.dataset.theme = theme;
    writeStored("theme", theme);
  }

  /** Store it for the next visit; called from an effect, again whenever something of it changes. */
  save(): void {
    const { heat, outline, opacity, pairOpacity } = this;
    writeStored("evidence", JSON.stringify({ heat, outline, opacity, pairOpacity } satisfies DisplaySettings));
  }
}

export const display = new Display();
