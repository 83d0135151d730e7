// The saliency lies over the drawing where the model has looked, and goes when it is no longer of this drawing.

import assert from "node:assert/strict";
import { ONE, SEVEN, draw, open, predicts, ready } from "./browser.mjs";

// Over the middle of the model's picture, which is the middle of the stroke; against it, a corner.
const SALIENCY = Array.from({ length: 28 }, (_, row) =>
  Array.from({ length: 28 }, (_, column) => {
    const middle = Math.hypot(row - 13.5, column - 13.5) < 2;
    return middle ? 0.8 : row < 2 && column < 2 ? -0.4 : 0;
  }),
);

/// Who explains: the server itself, an answer that is known, or nobody.
let explains = "server";
let asked = 0;

const prepare = async (page) => {
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    if (!request.url().endsWith("/v1/models/digits:explain")) return request.continue();
    asked += 1;
    if (explains === "server") return request.continue();
    const [pixels] = JSON.parse(request.postData()).instances;
    assert.equal(pixels.length, 784);
    const body = JSON.stringify({ explanations: [{ label: "1", class: 1, method: "occlusion", saliency: SALIENCY }] });
    return request.respond({ status: explains === "known" ? 200 : 404, contentType: "application/json", body });
  });
};

/// Where the overlay glows, in parts of the pad, and of which colour it is there.
const glow = (page) =>
  page.$eval("#saliency", (canvas) => {
    if (canvas.width === 0) return null;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let [x, y, mass] = [0, 0, 0];
    for (let i = 0; i < data.length / 4; i++) {
      const strength = data[4 * i + 3];
      if (strength < 128) continue;
      mass += strength;
      x += strength * ((i % canvas.width) + 0.5);
      y += strength * (Math.floor(i / canvas.width) + 0.5);
    }
    [x, y] = [x / mass, y / mass];
    const at = 4 * (Math.floor(y) * canvas.width + Math.floor(x));
    return { x: x / canvas.width, y: y / canvas.height, warm: data[at] > data[at + 2] };
  });

const glows = (page) => page.waitForFunction(() => document.getElementById("saliency").width > 0);

await open(
  async (page) => {
    await ready(page);
    await draw(page, SEVEN);
    await predicts(page, "7");
    await glows(page);
    const where = await glow(page);
    assert.ok(where.x > 0.2 && where.x < 0.8 && where.y > 0.1 && where.y < 0.9, `the server points at ${where.x}, ${where.y}`);
    await page.click("#clear");

    explains = "known";
    await draw(page, ONE);
    await predicts(page, "1");
    await glows(page);
    const { x, y, warm } = await glow(page);
    assert.ok(Math.abs(x - 0.51) < 0.02 && Math.abs(y - 0.5) < 0.02, `it glows at ${x}, ${y}`);
    assert.ok(warm, "what speaks for it is warm");

    await page.click("#explain");
    assert.equal(await glow(page), null);
    const before = asked;
    await draw(page, [[0.5, 0.4], [0.5, 0.5]]);
    await predicts(page, "1");
    assert.equal(asked, before, "who does not want to know why does not ask");
    await page.click("#explain");
    await glows(page);
    await page.click("#clear");
    assert.equal(await glow(page), null);

    // A server that does not explain is not asked again.
    explains = "nobody";
    await draw(page, ONE);
    await page.waitForSelector("#why[hidden]");
    await predicts(page, "1");
    assert.ok(await page.$eval("#trouble", (trouble) => trouble.hidden));
  },
  { prepare, expected: /^Failed to load resource.*404/ },
);
