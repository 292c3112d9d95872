import { beforeEach, expect, it, vi, afterEach } from "vitest";
import { app } from "../src/lib/app.svelte";
import { UNREACHABLE } from "../src/lib/api";

const UPLOAD = "ab".repeat(32);
const REPORT = { gallery_id: "0123456789", gallery_state: "1-2", matches: [], liked: [], disliked: [] };

/** A server whose answer to a query is as given; 0: it does not answer. */
function server(status: number, detail = "") {
  const asked: string[] = [];
  vi.stubGlobal("fetch", async (path: string, init?: RequestInit) => {
    if (path !== "api/query") return new Response(JSON.stringify({ headline: "" }));
    asked.push([...(init?.body as FormData).entries()].map(([name, value]) => `${name}=${String(value)}`).join("&"));
    if (status === 0) throw new TypeError("Failed to fetch");
    if (status !== 200) return new Response(JSON.stringify({ detail }), { status });
    const headers = { "Sonoseek-Uploads": UPLOAD, "Content-Location": "/api/reports/x" };
    return new Response(JSON.stringify(REPORT), { headers });
  });
  return asked;
}

beforeEach(async () => {
  server(200);
  history.replaceState(null, "", "#/read");
  app.route();
  app.navigate({ ...app.read, uploads: [UPLOAD] });
  await vi.waitFor(() => expect(app.busy).toBe(false));
});
afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

it.each([
  [0, true],
  [500, true],
  [503, true],
  [413, false],
  [422, false],
])("after status %d the address is that of the report shown, and the request is offered again: %s", async (status, offered) => {
  const shown = location.hash;
  server(status, "no");
  app.step({ kind: "where", text: "age > 40" });
  await vi.waitFor(() => expect(app.problem).toBe(status === 0 ? UNREACHABLE : "no"));
  expect(location.hash).toBe(shown);
  expect(app.search.where).toBe("");
  expect(app.refusedFilter).toBe(status === 422 ? "age > 40" : "");
  expect(app.report).not.toBeNull();
  expect(app.again !== undefined).toBe(offered);
  if (!offered) return;
  const asked = server(200);
  app.again?.();
  await vi.waitFor(() => expect(app.search.where).toBe("age > 40"));
  expect(asked).toHaveLength(1);
  expect(asked[0]).toContain("where=age > 40");
  expect(location.hash).toContain("s=w");
  expect(app.problem).toBe("");
});

it("another problem does not offer the request of the one before", async () => {
  server(0);
  app.rate("like", "busi/a");
  await vi.waitFor(() => expect(app.again).toBeDefined());
  expect(app.search.liked).toEqual([]);
  app.problem = "The file is too large.";
  expect(app.again).toBeUndefined();
});

it("a report whose pictures do not load is asked for, and a server that is away is told", async () => {
  vi.stubGlobal("fetch", async () => {
    throw new TypeError("Failed to fetch");
  });
  expect(await app.renew()).toBe(false);
  expect(app.problem).toBe(UNREACHABLE);
  server(200);
  const round = app.pictureRound;
  app.again?.();
  await vi.waitFor(() => expect(app.pictureRound).toBe(round + 1));
  expect(app.problem).toBe("");
});

it("a file that could not be saved is saved again, after the pictures that did not load", async () => {
  vi.stubGlobal("fetch", async () => {
    throw new TypeError("Failed to fetch");
  });
  await app.renew();
  app.problem = "";
  app.saveFile({ preventDefault() {}, currentTarget: { href: "/api/reports/x/report.pdf" } } as never);
  await vi.waitFor(() => expect(app.problem).toBe(UNREACHABLE));
  const asked: string[] = [];
  vi.stubGlobal("fetch", async (path: string) => {
    asked.push(path);
    return new Response("{}");
  });
  vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(() => {}); // jsdom downloads nothing
  vi.stubGlobal("URL", { createObjectURL: () => "blob:x", revokeObjectURL() {} });
  const round = app.pictureRound;
  app.again?.();
  await vi.waitFor(() => expect(asked).toEqual(["/api/reports/x/text", "/api/reports/x/report.pdf"]));
  expect(app.pictureRound).toBe(round + 1);
  expect(app.problem).toBe("");
});
