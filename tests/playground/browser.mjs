// A real Chromium without a window, and what must hold for every page in it: no request goes elsewhere, nothing is
// reported as an error, nothing breaks the page's security policy.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import process from "node:process";

const require = createRequire(new URL("../../target/npm/", import.meta.url));
const puppeteer = require("puppeteer-core");

export const PHONE = { width: 360, height: 740, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const DESK = { width: 1200, height: 900 };

/// Opens the playground of the server that the first argument names, and runs a test with the page. `expected`: what the
/// test makes Chromium report. `prepare` is called before the page is loaded.
export async function open(test, { viewport = DESK, expected = /^$/, prepare = async () => {} } = {}) {
  const address = process.argv[2];
  const browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM,
    // A container's root has no sandbox to go into.
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  try {
    const page = await browser.newPage();
    await page.setViewport(viewport);
    const wrong = [];
    page.on("pageerror", (error) => wrong.push(`${error}`));
    page.on("console", (message) => {
      // A breach of the policy is among them.
      if (message.type() === "error" && !expected.test(message.text())) wrong.push(message.text());
    });
    page.on("request", (request) => {
      if (!request.url().startsWith(`${address}/`)) wrong.push(`a request to ${request.url()}`);
    });
    await prepare(page);
    await page.goto(`${address}/`);
    await test(page);
    assert.deepEqual(wrong, []);
  } finally {
    await browser.close();
  }
}

/// Waits until the page can be used.
export async function ready(page) {
  await page.waitForSelector("#playground:not([hidden])");
}

/// Waits until the prediction is this label.
export async function predicts(page, label) {
  await says(page, "#label", new RegExp(`^${label}$`));
}

/// Waits until an element shows a text that matches; tells what it shows when it does not.
export async function says(page, selector, pattern) {
  const shows = (selector, source) => {
    const element = document.querySelector(selector);
    return element.checkVisibility() && new RegExp(source).test(element.textContent);
  };
  try {
    await page.waitForFunction(shows, { timeout: 20_000 }, selector, pattern.source);
  } catch {
    const text = await page.$eval(selector, (element) => element.textContent);
    assert.fail(`${selector} says \`${text}\`, and not ${pattern}`);
  }
}

/// Points of the pad's unit square on the screen.
export async function onPad(page, points) {
  const box = await (await page.$("#pad")).boundingBox();
  return points.map(([x, y]) => [box.x + x * box.width, box.y + y * box.height]);
}

/// Digits as one stroke of the hand.
export const ONE = [[0.52, 0.2], [0.5, 0.8]];
export const SEVEN = [[0.3, 0.22], [0.68, 0.2], [0.48, 0.8]];

export async function draw(page, stroke) {
  const [first, ...rest] = await onPad(page, stroke);
  await page.mouse.move(...first);
  await page.mouse.down();
  for (const point of rest) await page.mouse.move(...point, { steps: 10 });
  await page.mouse.up();
}
