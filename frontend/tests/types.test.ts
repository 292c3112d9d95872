// @vitest-environment node
import openapiTS, { astToString, COMMENT_HEADER } from "openapi-typescript";
import { expect, it } from "vitest";
import source from "../openapi.json?raw";
import written from "../src/lib/openapi.ts?raw";

it("openapi.ts is generated from openapi.json; if not, run: npm run types", { timeout: 120_000 }, async () => {
  expect(written).toBe(COMMENT_HEADER + astToString(await openapiTS(source)));
});
