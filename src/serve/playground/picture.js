// Strokes and image files as the pixels that a model takes. It draws nothing that a person sees.
//
// A picture is `{pixels, place}`: pixels 0 to 255, row by row, channels last, and where the pad's unit square lies on
// them: a point (x, y) of the pad is at (x * place.width + place.x, y * place.height + place.y) in pixels.

/// MNIST's rule: the ink fits into 20 of 28 pixels, its centre of mass in the middle.
const INK = 20 / 28;
/// Pixels along the work sheet: enough for several to one pixel of a small model, and few enough for each movement of the
/// hand.
const SHEET = 224;

/// Draws strokes in units of the pad; `width` gives the line's width from the stroke's pen.
export function trace(context, strokes, width = (pen) => pen) {
  context.lineCap = context.lineJoin = "round";
  for (const { pen, points } of strokes) {
    context.lineWidth = width(pen);
    context.beginPath();
    context.moveTo(...points[0]);
    // Through the middles between points, so that a hand's line has no corners.
    for (let i = 1; i + 1 < points.length; i++) {
      const [x, y] = points[i];
      context.quadraticCurveTo(x, y, (x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2);
    }
    context.lineTo(...points.at(-1));
    context.stroke();
  }
}

/// What was drawn, for a grey model.
export function fromStrokes(strokes, shape) {
  const points = strokes.flatMap((stroke) => stroke.points);
  const [left, right] = range(points.map(([x]) => x));
  const [top, bottom] = range(points.map(([, y]) => y));
  // A dot stays a dot.
  const extent = Math.max(right - left, bottom - top, 0.12);
  // The model's picture is half of the sheet, so that a broad pen finds room.
  const scale = (INK * SHEET) / 2 / extent;
  const x = SHEET / 2 - (scale * (left + right)) / 2;
  const y = SHEET / 2 - (scale * (top + bottom)) / 2;
  const context = blank(SHEET, SHEET, "black");
  context.setTransform(scale, 0, 0, scale, x, y);
  context.strokeStyle = "white";
  // Written small or large, a digit comes out equally thick: the pen is measured on the model's picture.
  trace(context, strokes, (pen) => (pen * 1.2 * SHEET) / 2 / scale);
  return centred(planes(context, 1)[0], shape, { width: scale, height: scale, x, y });
}

/// An image file, spread over the model's picture; with `handwriting`, its ink alone, cropped and centred as a drawing's.
export function fromImage(image, shape, handwriting) {
  if (handwriting) {
    const context = blank(SHEET, SHEET, "white");
    context.drawImage(image, 0, 0, SHEET, SHEET);
    return centred(inked(planes(context, 1)[0]), shape, { width: SHEET, height: SHEET, x: 0, y: 0 });
  }
  const exact = image.width === shape.width && image.height === shape.height;
  const fine = exact ? 1 : 4;
  const [width, height] = [shape.width * fine, shape.height * fine];
  const context = blank(width, height, "black");
  context.drawImage(image, 0, 0, width, height);
  const scaled = planes(context, shape.channels).map((plane) =>
    averaged(plane, width, height, shape.width, shape.height, fine, 0, 0),
  );
  const pixels = new Array(shape.width * shape.height * shape.channels);
  for (let i = 0; i < pixels.length; i++) {
    pixels[i] = Math.round(scaled[i % shape.channels][Math.floor(i / shape.channels)]);
  }
  return { pixels, place: { width: shape.width, height: shape.height, x: 0, y: 0 } };
}

/// A grey sheet, cropped to its ink, scaled and centred; `place` is where the pad lies on the sheet.
function centred(grey, shape, place) {
  let [left, right, top, bottom] = [SHEET, 0, SHEET, 0];
  let [mass, x, y] = [0, 0, 0];
  for (let row = 0; row < SHEET; row++) {
    for (let column = 0; column < SHEET; column++) {
      const value = grey[row * SHEET + column];
      if (value < 16) continue;
      left = Math.min(left, column);
      right = Math.max(right, column + 1);
      top = Math.min(top, row);
      bottom = Math.max(bottom, row + 1);
      mass += value;
      x += value * (column + 0.5);
      y += value * (row + 0.5);
    }
  }
  const side = Math.min(shape.height, shape.width);
  // Ink of less than a quarter of the sheet is a dot, and not to be blown up; no ink at all stays where it is.
  const extent = Math.max(right - left, bottom - top, SHEET / 4);
  const step = extent / (side * INK);
  const startX = (mass > 0 ? x / mass : SHEET / 2) - (step * shape.width) / 2;
  const startY = (mass > 0 ? y / mass : SHEET / 2) - (step * shape.height) / 2;
  const pixels = averaged(grey, SHEET, SHEET, shape.width, shape.height, step, startX, startY);
  return {
    pixels: Array.from(pixels, Math.round),
    place: {
      width: place.width / step,
      height: place.height / step,
      x: (place.x - startX) / step,
      y: (place.y - startY) / step,
    },
  };
}

/// Light ink on black, from ink of either kind on paper of either kind: what lies at the edge is the paper.
function inked(grey) {
  const edge = [];
  for (let i = 0; i < SHEET; i++) {
    edge.push(grey[i], grey[(SHEET - 1) * SHEET + i], grey[i * SHEET], grey[i * SHEET + SHEET - 1]);
  }
  const paper = edge.sort((a, b) => a - b)[edge.length >> 1];
  const ink = grey.map((value) => Math.abs(value - paper));
  const most = Math.max(ink.reduce((a, b) => Math.max(a, b), 0), 1);
  // Shadows and the grain of paper are not ink.
  return ink.map((value) => Math.max(0, (value / most - 0.25) / 0.75) * 255);
}

/// A plane of `width` by `height`, each pixel of the result the mean of a square of `step` of them, the first one at
/// (`x`, `y`); outside of the plane there is black.
function averaged(plane, width, height, columns, rows, step, x, y) {
  const across = spans(columns, step, x, width);
  const down = spans(rows, step, y, height);
  const result = new Float32Array(columns * rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (const [i, share] of down[row]) {
        for (const [j, part] of across[column]) sum += plane[i * width + j] * share * part;
      }
      result[row * columns + column] = sum / (step * step);
    }
  }
  return result;
}

/// For each of `count` steps along a line, the pixels that it covers, each with how much of it.
function spans(count, step, start, limit) {
  return Array.from({ length: count }, (_, index) => {
    const [from, to] = [start + index * step, start + (index + 1) * step];
    const covered = [];
    for (let i = Math.max(0, Math.floor(from)); i < Math.min(limit, Math.ceil(to)); i++) {
      covered.push([i, Math.min(i + 1, to) - Math.max(i, from)]);
    }
    return covered;
  });
}

function blank(width, height, ground) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = ground;
  context.fillRect(0, 0, width, height);
  return context;
}

/// The grey plane of a canvas, or its three colours.
function planes(context, channels) {
  const { width, height } = context.canvas;
  const { data } = context.getImageData(0, 0, width, height);
  const plane = (red, green, blue) => {
    const values = new Float32Array(width * height);
    for (let i = 0; i < values.length; i++) {
      values[i] = red * data[4 * i] + green * data[4 * i + 1] + blue * data[4 * i + 2];
    }
    return values;
  };
  return channels === 1 ? [plane(0.299, 0.587, 0.114)] : [plane(1, 0, 0), plane(0, 1, 0), plane(0, 0, 1)];
}

function range(values) {
  return values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
}
