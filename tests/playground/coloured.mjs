// A model of coloured pictures: nothing is drawn, an image is chosen or dropped, and its pixels are what is sent.

import assert from "node:assert/strict";
import { SEVEN, draw, open, predicts, ready, says } from "./browser.mjs";

/// Gives the page a PNG of 8x8 pixels, or of whole multiples, red to the right and green downwards: by the button or by
/// dropping it.
const give = (page, size, dropped) =>
  page.evaluate(
    async (size, dropped) => {
      const canvas = new OffscreenCanvas(size, size);
      const context = canvas.getContext("2d");
      const block = size / 8;
      for (let i = 0; i < 64; i++) {
        context.fillStyle = `rgb(${(i % 8) * 30}, ${Math.floor(i / 8) * 30}, 7)`;
        context.fillRect((i % 8) * block, Math.floor(i / 8) * block, block, block);
      }
      const transfer = new DataTransfer();
      transfer.items.add(new File([await canvas.convertToBlob()], "picture.png", { type: "image/png" }));
      if (dropped) {
        document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
      } else {
        const file = document.getElementById("file");
        file.files = transfer.files;
        file.dispatchEvent(new Event("change"));
      }
    },
    size,
    dropped,
  );

const expected = Array.from({ length: 64 }, (_, i) => [(i % 8) * 30, Math.floor(i / 8) * 30, 7]).flat();

await open(async (page) => {
  await ready(page);
  await draw(page, SEVEN);
  await predicts(page, "\\?");
  assert.equal(await page.$eval("#pens", (pens) => pens.hidden), true);
  await says(page, "#invitation", /^Drop an image here$/);
  for (const [size, dropped] of [[8, false], [8, true], [64, true]]) {
    await give(page, size, dropped);
    await predicts(page, "(red|green)");
    const command = await page.$eval("#curl", (command) => command.textContent);
    assert.deepEqual(JSON.parse(command.match(/ -d '(.*)'$/)[1]), expected, `${size} pixels wide`);
    await page.click("#clear");
    await predicts(page, "\\?");
  }
  const text = await page.evaluateHandle(() => new File(["no image"], "notes.txt"));
  await page.evaluate((file) => {
    const transfer = new DataTransfer();
    transfer.items.add(file);
    document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
  }, text);
  await says(page, "#trouble", /^notes.txt is no image/);
});
