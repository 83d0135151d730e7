// A digit drawn with the mouse is recognised while it is drawn, and everything that shows it goes along.

import assert from "node:assert/strict";
import { DESK, ONE, SEVEN, draw, onPad, open, predicts, ready, says } from "./browser.mjs";

let asked = 0;
let flying = 0;
let most = 0;

function count(page) {
  const isAsking = (request) => request.method() === "POST" && request.url().endsWith("/predict");
  page.on("request", (request) => {
    if (!isAsking(request)) return;
    asked += 1;
    most = Math.max(most, ++flying);
  });
  page.on("requestfinished", (request) => isAsking(request) && flying--);
}

await open(
  async (page) => {
    await ready(page);
    assert.equal(await page.title(), "digits");
    await says(page, "#version", /^version [0-9a-f]{12}$/);
    await predicts(page, "\\?");

    await draw(page, SEVEN);
    await predicts(page, "7");
    await says(page, "#said", /^7, \d+\.\d %$/);
    assert.ok(asked > 1, "it is asked while the hand draws");
    assert.equal(most, 1, "one request at a time");

    // What the bars tell is a distribution, and the best of them is the label.
    const bars = await page.$$eval("#bars li", (items) =>
      items.map((item) => [...item.children].map((part) => part.textContent)),
    );
    assert.deepEqual(bars.map(([name]) => name), [..."0123456789"]);
    const parts = bars.map(([, , number]) => Number.parseFloat(number));
    assert.ok(Math.abs(parts.reduce((a, b) => a + b) - 100) < 1, `${parts}`);
    assert.equal(parts.indexOf(Math.max(...parts)), 7);
    assert.equal(await page.$eval(".best .name", (name) => name.textContent), "7");

    // The model's picture keeps MNIST's rule: ink in 20 of 28 pixels, its centre of mass in the middle.
    const ink = await page.$eval("#picture", (canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, 28, 28);
      const lit = [...Array(784).keys()].filter((index) => data[4 * index] > 16);
      const mass = lit.reduce((sum, index) => sum + data[4 * index], 0);
      const mean = (place) => lit.reduce((sum, index) => sum + data[4 * index] * (place(index) + 0.5), 0) / mass;
      const rows = lit.map((index) => Math.floor(index / 28));
      return {
        height: Math.max(...rows) - Math.min(...rows) + 1,
        x: mean((index) => index % 28),
        y: mean((index) => Math.floor(index / 28)),
      };
    });
    assert.ok(ink.height >= 19 && ink.height <= 21, `${ink.height} rows of ink`);
    assert.ok(Math.abs(ink.x - 14) < 0.3 && Math.abs(ink.y - 14) < 0.3, `centred at ${ink.x}, ${ink.y}`);

    // Latencies: a bar for each request, and numbers.
    await says(page, "#latency-text", /^median \d+(\.\d)? ms · p99 \d+(\.\d)? ms · last \d+$/);
    assert.equal(await page.$$eval("#plot rect", (bars) => bars.length), Math.min(asked, 60));

    // The command holds what the page has sent, and answers the same.
    const command = await page.$eval("#curl", (command) => command.textContent);
    const body = JSON.parse(command.match(/ -d '(.*)'$/)[1]);
    const answer = await fetch(new URL("/predict", page.url()), { method: "POST", body: JSON.stringify(body) });
    assert.equal((await answer.json()).predictions[0].label, "7");

    await page.click("#undo");
    await predicts(page, "\\?");
    await draw(page, ONE);
    await predicts(page, "1");
    // Small in a corner, and broad: it is the shape that counts.
    await page.click("#clear");
    await predicts(page, "\\?");
    assert.equal(await page.$eval("#said", (said) => said.textContent), "");
    await page.click("#pens label:last-child");
    await draw(page, SEVEN.map(([x, y]) => [x / 3, y / 3]));
    await predicts(page, "7");

    // A picture from a file.
    await (await page.$("#file")).uploadFile(new URL("../../examples/digits/seven.png", import.meta.url).pathname);
    await page.waitForSelector("#handwriting-choice:not([hidden])");
    await predicts(page, "7");
    await page.click("#clear");

    // Those who do not know what to draw are shown one, and may take the pen meanwhile.
    await page.click("#example");
    await says(page, "#label", /^\d$/);
    await page.mouse.click(...(await onPad(page, [[0.9, 0.9]]))[0]);
    const strokes = await page.$eval("#undo", (undo) => !undo.disabled);
    assert.ok(strokes);
  },
  { viewport: DESK, prepare: async (page) => count(page) },
);
