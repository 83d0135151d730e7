// Ten digits as a hand writes them, for those who want to see one first.

/// For each digit its strokes, as points in hundredths of the pad.
const DIGITS = [
  [[52, 18, 37, 26, 31, 50, 37, 75, 51, 83, 64, 74, 69, 50, 64, 26, 52, 18]],
  [[40, 32, 47, 26, 53, 17, 52, 50, 51, 84]],
  [[32, 34, 36, 21, 51, 17, 66, 26, 63, 43, 46, 63, 31, 81, 50, 79, 71, 81]],
  [[34, 24, 50, 17, 65, 27, 60, 42, 46, 48, 62, 53, 68, 68, 55, 82, 34, 77]],
  [[45, 17, 38, 38, 31, 57, 50, 57, 72, 56], [60, 36, 59, 60, 57, 85]],
  [[66, 18, 52, 19, 40, 19, 38, 33, 36, 47, 52, 43, 66, 53, 66, 70, 52, 82, 33, 77]],
  [[60, 17, 44, 32, 34, 56, 37, 76, 52, 83, 66, 72, 63, 56, 49, 52, 36, 64]],
  [[31, 20, 50, 20, 69, 19, 61, 40, 51, 62, 45, 84]],
  [[63, 24, 47, 17, 37, 29, 47, 44, 63, 57, 65, 74, 50, 83, 35, 73, 40, 57, 59, 42, 65, 29, 61, 22]],
  [[65, 31, 54, 18, 38, 25, 36, 41, 49, 49, 63, 38, 65, 29, 63, 55, 57, 84]],
];
const PARTS = 12;

let before = -1;

/// Writes a digit on the pad, another one than the last; at once where motion is not wanted.
export async function write(pad) {
  const digit = (before + 1 + Math.floor(Math.random() * 9)) % 10;
  before = digit;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  pad.clear();
  for (const flat of DIGITS[digit]) {
    const [first, ...rest] = smooth(flat);
    const stroke = pad.begin(first);
    while (rest.length > 0) {
      if (!still) await new Promise(requestAnimationFrame);
      // Somebody else has taken the pen.
      if (!pad.writes(stroke)) return;
      pad.extend(rest.splice(0, still ? rest.length : PARTS / 2));
    }
    pad.lift();
  }
}

/// Points along the line through those of a stroke.
function smooth(flat) {
  const points = [];
  for (let i = 0; i < flat.length; i += 2) points.push([flat[i] / 100, flat[i + 1] / 100]);
  const line = [points[0]];
  for (let i = 0; i + 1 < points.length; i++) {
    const [a, b, c, d] = [points[i - 1] ?? points[i], points[i], points[i + 1], points[i + 2] ?? points[i + 1]];
    for (let part = 1; part <= PARTS; part++) {
      const t = part / PARTS;
      line.push(
        [0, 1].map((axis) => {
          const slope = c[axis] - a[axis];
          const bend = 2 * a[axis] - 5 * b[axis] + 4 * c[axis] - d[axis];
          const twist = 3 * (b[axis] - c[axis]) + d[axis] - a[axis];
          return b[axis] + 0.5 * t * (slope + t * (bend + t * twist));
        }),
      );
    }
  }
  return line;
}
