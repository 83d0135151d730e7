// What of an input speaks for its prediction and what against: a glow over the picture, a mark beside a column.

const FOR = "--for";
const AGAINST = "--against";

/// Paints rows of values, -1 to 1, over the pad; `place` is where the pad lies on the model's picture.
export function glow(canvas, rows, place) {
  const [height, width] = [rows.length, rows[0].length];
  const most = Math.max(...rows.map((row) => Math.max(...row.map(Math.abs))));
  const colours = [FOR, AGAINST].map((name) => parts(getComputedStyle(canvas).getPropertyValue(name)));
  const image = new ImageData(width, height);
  rows.flat().forEach((value, index) => {
    const strength = most > 0 ? Math.abs(value) / most : 0;
    image.data.set([...colours[value < 0 ? 1 : 0], 230 * strength], 4 * index);
  });
  const small = document.createElement("canvas");
  small.width = width;
  small.height = height;
  small.getContext("2d").putImageData(image, 0, 0);

  const box = canvas.getBoundingClientRect();
  canvas.width = Math.round(box.width * devicePixelRatio);
  canvas.height = Math.round(box.height * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.scale(canvas.width / place.width, canvas.height / place.height);
  context.drawImage(small, -place.x, -place.y);
}

export function noGlow(canvas) {
  canvas.width = 0;
}

/// Sets the marks of a table's columns; `values` by column, none to take them away.
export function mark(meters, values) {
  const most = Math.max(0, ...Object.values(values ?? {}).map(Math.abs));
  for (const [name, meter] of meters) {
    const value = values?.[name] ?? 0;
    meter.className = value < 0 ? "mark against" : "mark for";
    meter.style.width = most > 0 ? `${(100 * Math.abs(value)) / most}%` : "0";
    meter.title = values ? `${value < 0 ? "against" : "for"} it: ${Math.abs(value).toFixed(2)}` : "";
  }
}

/// `#rrggbb` as three numbers.
function parts(colour) {
  return [1, 3, 5].map((start) => Number.parseInt(colour.trim().slice(start, start + 2), 16));
}
