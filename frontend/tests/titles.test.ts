import { cleanup, render } from "@testing-library/svelte";
import { afterEach, expect, it, vi } from "vitest";
import App from "../src/App.svelte";
import { app } from "../src/lib/app.svelte";

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

it("each view has its title", async () => {
  vi.stubGlobal("fetch", async () => new Response("{}", { status: 404 }));
  render(App);
  for (const [hash, title] of [
    ["#/read", "sonoseek reading room"],
    ["#/archive", "Archive · sonoseek"],
    ["#/case/busi/benign%20(1)", "Case busi/benign (1) · sonoseek"],
    ["#/batch", "Batch · sonoseek"],
  ] as const) {
    history.replaceState(null, "", hash);
    app.route();
    await vi.waitFor(() => expect(document.title).toBe(title));
  }
});
