// Without a mouse: everything is reached by Tab, and the arrow keys and the space bar draw.

import assert from "node:assert/strict";
import { open, predicts, ready } from "./browser.mjs";

async function reach(page, selector) {
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press("Tab");
    if (await page.$eval(selector, (element) => element === document.activeElement)) return;
  }
  assert.fail(`${selector} is not reached by Tab`);
}

async function press(page, key, times) {
  for (let i = 0; i < times; i++) await page.keyboard.press(key);
}

await open(async (page) => {
  await ready(page);
  await reach(page, "#pad");
  assert.ok(await page.$eval("#keys", (keys) => keys.offsetHeight > 10), "the keys are told");
  await press(page, "ArrowUp", 9);
  await page.keyboard.press("Space");
  await press(page, "ArrowDown", 18);
  await page.keyboard.press("Space");
  await predicts(page, "1");
  await page.keyboard.press("Backspace");
  await predicts(page, "\\?");

  // A seven: across, and down aslant with two keys.
  await press(page, "ArrowUp", 18);
  await press(page, "ArrowLeft", 6);
  await page.keyboard.press("Space");
  await press(page, "ArrowRight", 12);
  for (let i = 0; i < 7; i++) {
    await press(page, "ArrowDown", 2);
    await page.keyboard.press("ArrowLeft");
  }
  await page.keyboard.press("Space");
  await predicts(page, "7");

  await reach(page, "#clear");
  await page.keyboard.press("Enter");
  await predicts(page, "\\?");
  for (const selector of ["#pens input:checked", "#choose", "#copy", "summary", "#example"]) await reach(page, selector);
  await page.keyboard.press("Enter");
  await predicts(page, "\\d");

  // What takes the focus has a name.
  const nodes = [];
  const collect = (node) => [node, ...(node.children ?? [])].forEach((each) => (each === node ? nodes.push(each) : collect(each)));
  collect(await page.accessibility.snapshot());
  const roles = new Set(["button", "checkbox", "radio", "textbox", "combobox", "spinbutton", "application", "image", "img"]);
  const nameless = nodes.filter(({ role, name }) => roles.has(role) && !name);
  assert.deepEqual(nameless, []);
  assert.ok(nodes.some(({ role, name }) => role === "radio" && name === "Broad"));
});
