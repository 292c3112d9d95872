import { cleanup, render, screen } from "@testing-library/svelte";
import { afterEach, expect, it, vi } from "vitest";
import { UNREACHABLE } from "../src/lib/api";
import Archive from "../src/views/Archive.svelte";

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

it("the archive looks as if it were loading only while it is", async () => {
  vi.stubGlobal("fetch", async () => {
    throw new TypeError("Failed to fetch");
  });
  render(Archive);
  expect(document.querySelectorAll(".skeleton").length).toBeGreaterThan(0);
  await screen.findByText(UNREACHABLE);
  expect(document.querySelectorAll(".skeleton")).toHaveLength(0);
});
