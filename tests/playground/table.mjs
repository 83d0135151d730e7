// A table's model: a form with its columns, an answer as it is filled in.

import assert from "node:assert/strict";
import { PHONE, open, predicts, ready, says } from "./browser.mjs";

await open(
  async (page) => {
    await ready(page);
    assert.equal(await page.$eval("#drawing", (drawing) => drawing.checkVisibility()), false);
    const labels = await page.$$eval("#row label", (labels) => labels.map((label) => label.textContent));
    assert.deepEqual(labels, ["age", "city"]);
    const cities = await page.$$eval("#row option", (options) => options.map((option) => option.value));
    assert.deepEqual(cities, ["", "bonn", "rome"]);
    await predicts(page, "\\?");

    await page.type("#row input", "31");
    await page.select("#row select", "rome");
    await says(page, "#curl", /-d '\{"age":31,"city":"rome"\}'$/);
    await predicts(page, "(yes|no)");
    const shown = await page.$eval("#label", (label) => label.textContent);
    const body = JSON.stringify({ age: 31, city: "rome" });
    const answer = await (await fetch(new URL("/predict", page.url()), { method: "POST", body })).json();
    assert.equal(shown, answer.predictions[0].label);
    await says(page, ".best .number", new RegExp(`^${(100 * answer.predictions[0].confidence).toFixed(1)} %$`));

    await page.select("#row select", "");
    await says(page, "#curl", /-d '\{"age":31\}'$/);
    await page.click("#empty");
    await predicts(page, "\\?");
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
  },
  { viewport: PHONE },
);
