import { afterEach, expect, it, vi } from "vitest";
import { UNREACHABLE } from "../src/lib/api";
import { app } from "../src/lib/app.svelte";

afterEach(() => vi.unstubAllGlobals());

it("a server that does not answer is said in plain words, and no longer once it answers", async () => {
  vi.stubGlobal("fetch", async () => {
    throw new TypeError("Failed to fetch");
  });
  await app.loadAbout();
  expect(app.problem).toBe(UNREACHABLE);
  expect(app.problem).toBe("The server does not answer. Check that it runs and that the network is up, then try again.");
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ gallery_state: "1" })));
  await app.loadAbout();
  expect(app.problem).toBe("");
});

it("another problem stays", async () => {
  app.problem = "The file is no image.";
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify({ gallery_state: "1" })));
  await app.loadAbout();
  expect(app.problem).toBe("The file is no image.");
  app.problem = "";
});
