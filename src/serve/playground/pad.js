// The sheet that is drawn on, with mouse, finger, pen or keys. It knows strokes, and no pixel of a model.

import { trace } from "./picture.js";

/// How far an arrow key moves the pen, in parts of the pad; a smaller step with Shift.
const STEP = 0.03;
const SMALL_STEP = 0.01;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/// `changed` is called after each change. Where nothing can be drawn, the pad shows an image.
export class Pad {
  /// Strokes in the pad's unit square: `{pen, points: [[x, y], …]}`.
  strokes = [];
  /// The image that is shown instead; null while it is drawn on.
  image = null;
  /// Width of the next stroke.
  pen = 0.065;

  #canvas;
  #changed;
  #drawable;
  #past = [];
  #stroke = null;
  #cursor = null;
  #arrows = new Set();

  constructor(canvas, drawable, changed) {
    this.#canvas = canvas;
    this.#drawable = drawable;
    this.#changed = changed;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    if (!drawable) return;
    // A finger that draws is no gesture: the browser would take a tap right after it for the end of a flick.
    canvas.addEventListener("touchstart", (event) => event.preventDefault());
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", () => this.lift());
    canvas.addEventListener("pointercancel", () => this.lift());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("keyup", (event) => this.#arrows.delete(event.key));
    canvas.addEventListener("blur", () => this.#leave());
  }

  get empty() {
    return this.image === null && this.strokes.length === 0;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  /// Sets the pen down, and gives the stroke that begins.
  begin(point) {
    this.#remember();
    this.image = null;
    this.#stroke = { pen: this.pen, points: [point] };
    this.strokes = [...this.strokes, this.#stroke];
    this.#update();
    return this.#stroke;
  }

  /// Whether the pen is down, and writes this stroke.
  writes(stroke) {
    return this.#stroke === stroke;
  }

  /// Leads the pen on.
  extend(points) {
    this.#stroke?.points.push(...points);
    this.#update();
  }

  lift() {
    this.#stroke = null;
    this.draw();
  }

  clear() {
    if (this.empty) return;
    this.#remember();
    this.#show([], null);
  }

  undo() {
    if (this.canUndo) this.#show(...this.#past.pop());
  }

  /// Shows an image instead of what was drawn.
  place(image) {
    this.#remember();
    this.#show([], image);
  }

  draw() {
    const { width, height } = this.#canvas.getBoundingClientRect();
    const style = getComputedStyle(this.#canvas);
    const context = this.#canvas.getContext("2d");
    const [across, down] = [width, height].map((length) => Math.round(length * devicePixelRatio));
    if (this.#canvas.width !== across) this.#canvas.width = across;
    if (this.#canvas.height !== down) this.#canvas.height = down;
    context.reset();
    context.scale(across, down);
    if (this.image) context.drawImage(this.image, 0, 0, 1, 1);
    context.strokeStyle = style.color;
    trace(context, this.strokes);
    if (!this.#cursor) return;
    context.strokeStyle = style.getPropertyValue("--accent");
    context.lineWidth = 2 / width;
    context.beginPath();
    context.arc(...this.#cursor, this.#stroke ? 0.015 : 0.03, 0, 2 * Math.PI);
    context.stroke();
  }

  #remember() {
    this.#past.push([this.strokes, this.image]);
  }

  #show(strokes, image) {
    this.#stroke = null;
    this.strokes = strokes;
    this.image = image;
    this.#update();
  }

  #update() {
    this.draw();
    this.#changed();
  }

  #point({ clientX, clientY }) {
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    return [within((clientX - left) / width), within((clientY - top) / height)];
  }

  #down(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#cursor = null;
    this.begin(this.#point(event));
  }

  #move(event) {
    if (!this.#stroke || !event.isPrimary || this.#cursor) return;
    const all = event.getCoalescedEvents?.() ?? [];
    this.extend((all.length > 0 ? all : [event]).map((each) => this.#point(each)));
  }

  #key(event) {
    if (event.key in ARROWS) {
      this.#arrows.add(event.key);
      const step = event.shiftKey ? SMALL_STEP : STEP;
      const from = this.#cursor ?? [0.5, 0.5];
      // Two keys at once lead aslant.
      this.#cursor = [0, 1].map((axis) =>
        within([...this.#arrows].reduce((sum, key) => sum + ARROWS[key][axis] * step, from[axis])),
      );
      if (this.#stroke) this.extend([this.#cursor]);
      else this.draw();
    } else if (event.key === " ") {
      this.#cursor ??= [0.5, 0.5];
      if (event.repeat) return event.preventDefault();
      if (this.#stroke) this.lift();
      else this.begin(this.#cursor);
    } else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) {
      this.undo();
    } else if (event.key === "Delete") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  #leave() {
    this.#arrows.clear();
    if (!this.#cursor) return;
    this.#cursor = null;
    this.lift();
  }
}

function within(part) {
  return Math.min(1, Math.max(0, part));
}
