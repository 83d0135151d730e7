// How long the last requests took, from the page and back.

const KEPT = 60;
const [WIDTH, HEIGHT] = [240, 48];
const SVG = "http://www.w3.org/2000/svg";

const plot = document.getElementById("plot");
const text = document.getElementById("latency-text");
const last = [];

/// Notes a request that took this many milliseconds.
export function took(milliseconds) {
  last.push(milliseconds);
  if (last.length > KEPT) last.shift();
  const sorted = [...last].sort((a, b) => a - b);
  const at = (part) => sorted[Math.ceil(part * sorted.length) - 1];
  text.textContent = `median ${show(at(0.5))} · p99 ${show(at(0.99))} · last ${last.length}`;
  const step = WIDTH / KEPT;
  const bars = last.map((value, index) => {
    const height = Math.max(1, (HEIGHT * value) / sorted.at(-1));
    const bar = document.createElementNS(SVG, "rect");
    const places = { x: (KEPT - last.length + index) * step, y: HEIGHT - height, width: step * 0.7, height };
    for (const [name, place] of Object.entries(places)) bar.setAttribute(name, place.toFixed(2));
    return bar;
  });
  plot.replaceChildren(...bars);
}

function show(milliseconds) {
  return `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`;
}
