// A server that is busy, gone or locked: a person is told, and what was drawn is predicted in the end.

import assert from "node:assert/strict";
import { ONE, SEVEN, draw, open, predicts, ready, says } from "./browser.mjs";

const KEY = "a key of this test";

/// What stands between the page and its server; null lets a request through.
let answer = null;

const refuse = (status, headers = {}) => (request) =>
  request.respond({ status, headers, contentType: "application/json", body: JSON.stringify({ error: "not now" }) });

const locked = (request) => {
  if (request.headers().authorization === `Bearer ${KEY}`) return request.continue();
  return refuse(401)(request);
};

const prepare = async (page) => {
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    const calls = request.resourceType() === "fetch";
    return answer && calls ? answer(request) : request.continue();
  });
};

const calm = (page) => page.waitForSelector("#trouble[hidden]");

await open(
  async (page) => {
    // Locked from the start: the page asks for a key, says when it is the wrong one, and keeps it nowhere.
    await page.waitForSelector("#key-form:not([hidden])");
    assert.equal(await page.$eval("#playground", (playground) => playground.checkVisibility()), false);
    await page.type("#key", "another");
    await page.keyboard.press("Enter");
    await says(page, "#trouble", /^This key opens nothing here$/);
    await page.type("#key", KEY);
    await page.keyboard.press("Enter");
    await ready(page);
    await page.waitForSelector("#key-form[hidden]");
    await draw(page, SEVEN);
    await predicts(page, "7");
    const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
    assert.deepEqual(kept, [0, 0, ""]);
    const shown = await page.evaluate(() => document.documentElement.outerHTML);
    assert.ok(!shown.includes(KEY) && shown.includes("Bearer $KEY"));
    await page.click("#clear");

    for (const [fault, told] of [
      [refuse(429, { "retry-after": "1" }), /^The server is busy/],
      [refuse(503), /^Not ready: not now/],
      [(request) => request.abort("connectionrefused"), /^The server cannot be reached/],
    ]) {
      answer = fault;
      await draw(page, ONE);
      await says(page, "#trouble", told);
      answer = null;
      await predicts(page, "1");
      await calm(page);
      await page.click("#clear");
      await predicts(page, "\\?");
    }

    answer = refuse(400);
    await draw(page, ONE);
    await says(page, "#trouble", /^The server answered 400: not now$/);
    answer = null;
    await page.click("#clear");
    await draw(page, SEVEN);
    await predicts(page, "7");
    await calm(page);
  },
  {
    expected: /^Failed to load resource/,
    prepare: async (page) => {
      answer = locked;
      await prepare(page);
    },
  },
);
