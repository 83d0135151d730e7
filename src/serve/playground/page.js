// The playground: what is put in goes to the model as it changes, and the newest answer is shown.

import { Answer } from "./answer.js";
import { write } from "./examples.js";
import { took } from "./latency.js";
import { Pad } from "./pad.js";
import { fromImage, fromStrokes } from "./picture.js";
import { glow, mark, noGlow } from "./saliency.js";
import { Refusal, ask, hasKey, lane, pause, useKey } from "./server.js";
import { Table } from "./table.js";

const at = (id) => document.getElementById(id);

/// What the server says of its model: `GET /`.
let model;
let answer;
/// The input as the API takes it, and where the pad lies on it; null while there is none.
let input = null;
let place = null;
/// Shows what speaks for the prediction, and takes it away again when it is given nothing.
let showWhy = () => {};
/// Whether the server explains.
let explains = false;

const predict = lane(async (sent) => {
  await persist(sent, async () => {
    const began = performance.now();
    const { predictions, version } = await ask("predict", sent);
    took(performance.now() - began);
    if (input === null) return;
    answer.show(predictions[0]);
    // Another version has taken over.
    if (version !== model.version) describe(await ask("./"));
    explain(input);
  });
});

const explain = lane(async (sent) => {
  // When the hand rests: what is explained costs the model many predictions.
  await pause(0.12);
  if (sent !== input || !explains || !at("explain").checked) return;
  try {
    const { explanations } = await ask(`v1/models/${encodeURIComponent(model.model)}:explain`, { instances: [sent] });
    if (sent === input && at("explain").checked) showWhy(explanations[0].saliency);
  } catch (refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    // What is busy explains the next one; what cannot explain is not asked again.
    if (refusal.seconds === null) offerWhy(false);
  }
});

/// Does what asks the server, again and again while that is of use and nothing newer is there.
async function persist(sent, attempt) {
  for (;;) {
    try {
      await attempt();
      at("key-form").hidden = true;
      return trouble("");
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      if (refusal.status === 401 || refusal.status === 403) return askForKey(refusal.message);
      trouble(refusal.message);
      if (refusal.seconds === null) return;
      await pause(refusal.seconds);
      if (sent !== input) return;
    }
  }
}

function trouble(message) {
  at("trouble").textContent = message;
  at("trouble").hidden = message === "";
}

function askForKey(message) {
  trouble(hasKey() ? message : "");
  if (!at("key-form").hidden) return;
  at("key-form").hidden = false;
  at("key").focus();
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("key").value);
  at("key").value = "";
  if (model) predict(input);
  else start();
});

/// Takes a new input, or none.
function put(next, where = null) {
  input = next;
  place = where;
  showWhy(null);
  showCommand();
  if (input !== null) return predict(input);
  answer.clear();
  trouble("");
}

function describe(facts) {
  // A model that takes or tells something else needs another page.
  const same = (key) => JSON.stringify(facts[key]) === JSON.stringify(model[key]);
  if (model && !(same("inputs") && same("classes"))) return location.reload();
  model = facts;
  document.title = at("model").textContent = model.model;
  const { classes, version, digest, server, endpoints } = model;
  at("version").textContent = `version ${version}`;
  list("facts", [
    ["digest", digest],
    ["classes", classes.join(", ")],
    ["server", server],
  ]);
  list(
    "endpoints",
    endpoints.map(({ method, path, purpose }) => [`${method} ${path}`, purpose]),
  );
}

function list(id, pairs) {
  const elements = pairs.map((pair) =>
    pair.map((text, index) => {
      const element = document.createElement(["dt", "dd"][index]);
      element.textContent = text;
      return element;
    }),
  );
  at(id).replaceChildren(...elements.flat());
}

function offerDrawing(shape) {
  const grey = shape.channels === 1;
  const digits = grey && model.classes.length === 10 && model.classes.every((name, index) => name === `${index}`);
  const overlay = at("saliency");
  const pad = new Pad(at("pad"), grey, () => {
    at("hint").hidden = !pad.empty;
    at("clear").disabled = pad.empty;
    at("undo").disabled = !pad.canUndo;
    at("handwriting-choice").hidden = !grey || pad.image === null;
    if (pad.empty) {
      see([], shape);
      return put(null);
    }
    const picture = pad.image ? fromImage(pad.image, shape, at("handwriting").checked) : fromStrokes(pad.strokes, shape);
    see(picture.pixels, shape);
    put(picture.pixels, picture.place);
  });
  showWhy = (rows) => (rows ? glow(overlay, rows, place) : noGlow(overlay));

  at("clear").addEventListener("click", () => pad.clear());
  at("undo").addEventListener("click", () => pad.undo());
  at("example").addEventListener("click", () => {
    // The button goes, the focus stays on the way.
    at("pad").focus();
    write(pad);
  });
  at("choose").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", () => load(at("file").files[0]));
  at("pens").addEventListener("change", ({ target }) => (pad.pen = Number(target.value)));
  at("handwriting").addEventListener("change", () => pad.place(pad.image));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    load(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => load(event.clipboardData.files[0]));

  async function load(file) {
    at("file").value = "";
    if (!file) return;
    let image;
    try {
      image = await createImageBitmap(file);
    } catch {
      return trouble(`${file.name} is no image that this browser can read`);
    }
    trouble("");
    // A picture in the model's own size is one of its kind; any other is a photograph of paper, for a model of digits.
    at("handwriting").checked = digits && !(image.width === shape.width && image.height === shape.height);
    pad.place(image);
  }

  at("pad").ariaLabel = grey ? "Drawing pad" : "Image";
  if (grey) {
    at("pad").tabIndex = 0;
    at("pad").role = "application";
    at("pad").setAttribute("aria-describedby", "keys");
  }
  at("invitation").textContent = digits ? "Draw a digit" : grey ? "Draw here, or drop an image" : "Drop an image here";
  at("example").hidden = !digits;
  for (const element of document.querySelectorAll(".drawn")) element.hidden = !grey;
  at("paper").style.aspectRatio = `${shape.width} / ${shape.height}`;
  at("clear").disabled = at("undo").disabled = true;
  at("drawing").hidden = at("seen").hidden = false;
}

/// Shows a picture as the model gets it.
function see(pixels, { height, width, channels }) {
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let colour = 0; colour < 3; colour++) image.data[4 * i + colour] = pixels[i * channels + (colour % channels)] ?? 0;
    image.data[4 * i + 3] = 255;
  }
  at("picture").width = width;
  at("picture").height = height;
  at("picture").getContext("2d").putImageData(image, 0, 0);
}

function offerTable(columns) {
  const table = new Table(columns, put);
  showWhy = (values) => mark(table.marks, values);
  at("empty").addEventListener("click", () => table.clear());
  at("table").hidden = false;
}

function showCommand() {
  const body = JSON.stringify(input ?? (model.inputs.kind === "image" ? [] : {})).replaceAll("'", "'\\''");
  const key = hasKey() ? ' -H "authorization: Bearer $KEY"' : "";
  at("curl").textContent = `curl ${new URL("predict", location.href)} -H 'content-type: application/json'${key} -d '${body}'`;
}

at("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(at("curl").textContent);
    at("copy").textContent = "Copied";
    await pause(1.5);
    at("copy").textContent = "Copy";
  } catch {
    // Over plain HTTP a page may not write there: what is selected, a person can copy.
    getSelection().selectAllChildren(at("curl"));
  }
});

at("explain").addEventListener("change", () => {
  at("legend").hidden = !at("explain").checked;
  showWhy(null);
  if (input !== null) explain(input);
});

function offerWhy(offered) {
  explains = offered;
  at("why").hidden = !offered;
}

async function start() {
  await persist(null, async () => describe(await ask("./")));
  if (!model) return;
  answer = new Answer(model.classes);
  if (model.inputs.kind === "image") offerDrawing(model.inputs);
  else offerTable(model.inputs.columns);
  offerWhy(model.endpoints.some(({ path }) => path.endsWith(":explain")));
  showCommand();
  at("playground").hidden = false;
}

start();
