// The prediction: the label, a bar for each class, and what is said aloud when it has settled.

/// Classes that get a bar of their own place; where there are more, the most likely ones are listed.
const ALL = 16;
const MOST = 10;

export class Answer {
  #label = document.getElementById("label");
  #confidence = document.getElementById("confidence");
  #said = document.getElementById("said");
  #rows;
  #classes;
  #speaking;

  constructor(classes) {
    this.#classes = classes;
    this.#rows = classes.slice(0, classes.length > ALL ? MOST : ALL).map(bar);
    document.getElementById("bars").replaceChildren(...this.#rows.map((row) => row.item));
    this.clear();
  }

  /// Shows a prediction of `POST /predict`.
  show({ label, confidence, probabilities }) {
    this.#label.textContent = label;
    this.#label.className = "";
    this.#confidence.textContent = percent(confidence);
    let shown = this.#classes.map((name) => [name, probabilities[name]]);
    if (shown.length > ALL) shown = shown.sort(([, a], [, b]) => b - a).slice(0, MOST);
    this.#rows.forEach((row, index) => row.show(...shown[index], shown[index][0] === label));
    // Spoken when the hand rests: not each of a hundred answers while it draws.
    clearTimeout(this.#speaking);
    this.#speaking = setTimeout(() => {
      this.#said.textContent = `${label}, ${percent(confidence)}`;
    }, 600);
  }

  clear() {
    clearTimeout(this.#speaking);
    this.#said.textContent = "";
    this.#label.textContent = "?";
    this.#label.className = "none";
    this.#confidence.textContent = "";
    this.#rows.forEach((row, index) => row.show(this.#classes[index], null, false));
  }
}

function bar() {
  const [item, name, track, fill, number] = ["li", "span", "span", "span", "span"].map((tag) =>
    document.createElement(tag),
  );
  name.className = "name";
  track.className = "track";
  number.className = "number";
  track.append(fill);
  item.append(name, track, number);
  return {
    item,
    show(label, probability, best) {
      name.textContent = name.title = label;
      fill.style.width = `${100 * (probability ?? 0)}%`;
      number.textContent = probability === null ? "" : percent(probability);
      item.classList.toggle("best", best);
    },
  };
}

function percent(part) {
  return `${(100 * part).toFixed(1)} %`;
}
