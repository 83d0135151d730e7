// On a phone: a finger draws, and the page stays where it is.

import assert from "node:assert/strict";
import { ONE, PHONE, SEVEN, onPad, open, predicts, ready } from "./browser.mjs";

async function drag(page, stroke) {
  const points = await onPad(page, stroke);
  await page.touchscreen.touchStart(...points[0]);
  for (let i = 1; i < points.length; i++) {
    const [from, to] = [points[i - 1], points[i]];
    for (let part = 1; part <= 8; part++) {
      await page.touchscreen.touchMove(...[0, 1].map((axis) => from[axis] + ((to[axis] - from[axis]) * part) / 8));
    }
  }
  await page.touchscreen.touchEnd();
}

await open(
  async (page) => {
    await ready(page);
    await drag(page, SEVEN);
    await predicts(page, "7");
    await page.tap("#clear");
    await predicts(page, "\\?");
    await drag(page, ONE);
    await predicts(page, "1");
    assert.equal(await page.evaluate(() => scrollY), 0, "drawing does not scroll");
    const box = await (await page.$("#label")).boundingBox();
    assert.ok(box.y + box.height < PHONE.height, "the prediction is seen without scrolling");
  },
  { viewport: PHONE },
);
