import { afterEach, describe, expect, it, vi } from "vitest";
import { session } from "../src/lib/session.svelte";

afterEach(() => {
  vi.unstubAllGlobals();
  history.replaceState(null, "", "/");
});

function answer(status: number, detail = "") {
  const asked = vi.fn(async () => new Response(status === 204 ? null : JSON.stringify({ detail }), { status }));
  vi.stubGlobal("fetch", asked);
  return asked;
}

describe("a link with a token", () => {
  it("signs in, and the token leaves the address and the history", async () => {
    const asked = answer(204);
    history.replaceState(null, "", "/prefix/#token=a-token");
    const entries = history.length;
    expect(await session.enter()).toBe(true);
    expect(asked).toHaveBeenCalledWith("api/session", expect.objectContaining({ method: "POST", body: '{"token":"a-token"}' }));
    expect(location.href).not.toContain("token");
    expect(location.pathname).toBe("/prefix/");
    expect(history.length).toBe(entries);
    expect(session.problem).toBe("");
  });

  it("says why it is not taken, and leaves the address all the same", async () => {
    answer(401, "this is not the server's token");
    history.replaceState(null, "", "/#token=old");
    await session.enter();
    expect(session.problem).toContain("not the server's token");
    expect(session.needsToken).toBe(true);
    expect(location.hash).toBe("");
  });

  it("of another address asks nothing", async () => {
    const asked = answer(204);
    history.replaceState(null, "", "/#/archive");
    expect(await session.enter()).toBe(false);
    expect(asked).not.toHaveBeenCalled();
    expect(location.hash).toBe("#/archive");
  });
});

describe("signing out", () => {
  function server(jobs: unknown[]) {
    const asked = vi.fn(async (path: string, init?: RequestInit) =>
      path === "api/jobs" ? new Response(JSON.stringify(jobs)) : new Response(null, { status: init?.method === "DELETE" ? 204 : 500 }),
    );
    vi.stubGlobal("fetch", asked);
    const replaced = vi.fn();
    vi.stubGlobal("location", { pathname: "/", search: "", hash: "#/batch", replace: replaced });
    return { asked, replaced };
  }

  it("ends the session and loads the page anew", async () => {
    const { asked, replaced } = server([]);
    await session.signOut();
    expect(asked).toHaveBeenCalledWith("api/session", { method: "DELETE" });
    expect(replaced).toHaveBeenCalledWith("/");
  });

  it("asks first where jobs would be left, and may be called off", async () => {
    const { asked, replaced } = server([{}, {}]);
    const confirmed = vi.fn((text: string) => !text);
    vi.stubGlobal("confirm", confirmed);
    await session.signOut();
    expect(confirmed.mock.calls[0]?.[0]).toContain("You have 2 batch jobs");
    expect(asked).not.toHaveBeenCalledWith("api/session", expect.anything());
    expect(replaced).not.toHaveBeenCalled();
    vi.stubGlobal("confirm", () => true);
    await session.signOut();
    expect(replaced).toHaveBeenCalled();
  });
});
