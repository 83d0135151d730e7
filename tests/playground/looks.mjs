// Light and dark, wide and narrow: text stands out from its ground, and nothing runs off the page.

import assert from "node:assert/strict";
import { PHONE, SEVEN, draw, open, predicts, ready } from "./browser.mjs";

/// Runs in the page: each visible text with its contrast against what lies behind it, as WCAG computes it.
function contrasts() {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = channels(colour).map((value) => value / 255).map((value) =>
      value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      const [, , , alpha = 1] = channels(colour);
      if (alpha === 1) return colour;
      if (alpha !== 0) throw new Error(`half a ground: ${colour}`);
    }
    throw new Error("no ground");
  };
  const found = [];
  const note = (element, colour, text) => {
    const [a, b] = [light(colour), light(ground(element))].sort((a, b) => b - a);
    found.push({ text, contrast: (a + 0.05) / (b + 0.05) });
  };
  for (const element of document.querySelectorAll("body, body *")) {
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (text) note(element, getComputedStyle(element).color, text);
    if (element.placeholder) note(element, getComputedStyle(element, "::placeholder").color, element.placeholder);
    if (element.matches("input, select")) note(element, getComputedStyle(element).color, element.id);
  }
  return found;
}

async function fine(page, state) {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    const found = await page.evaluate(contrasts);
    assert.ok(found.length > 15, `${found.length} texts`);
    const weak = found.filter(({ contrast }) => !(contrast >= 4.5));
    assert.deepEqual(weak, [], `${state}, ${scheme}`);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= page.viewport().width, `${state}: ${wide} pixels wide`);
}

const ground = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

await open(
  async (page) => {
    await ready(page);
    await fine(page, "empty");
    const dark = await ground(page);
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
    assert.notEqual(dark, await ground(page));

    await draw(page, SEVEN);
    await predicts(page, "7");
    await page.click("summary");
    // Everything that may come to be seen, at once, with long words in it.
    await page.evaluate(() => {
      for (const id of ["trouble", "key-form", "why", "handwriting-choice"]) document.getElementById(id).hidden = false;
      document.getElementById("trouble").textContent = "wrong".repeat(40);
      for (const id of ["model", "label"]) document.getElementById(id).textContent = "name".repeat(20);
      for (const name of document.querySelectorAll(".name")) name.textContent = "class".repeat(20);
    });
    await fine(page, "all");
    await page.setViewport({ width: 1200, height: 900 });
    await page.waitForFunction(() => innerWidth === 1200);
    await fine(page, "wide");
  },
  { viewport: PHONE },
);
