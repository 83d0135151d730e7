// A form with a field for each column of a table. What is left empty is a missing value.

/// `changed` gets an object by column name after each change; null when every field is empty.
export class Table {
  /// The marks below the fields, by column.
  marks = new Map();

  #form = document.getElementById("row");
  #fields = new Map();

  constructor(columns, changed) {
    this.#form.replaceChildren(...columns.map((column, index) => this.#field(column, `column-${index}`)));
    this.#form.addEventListener("input", () => changed(this.#row()));
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("reset", () => changed(null));
  }

  clear() {
    this.#form.reset();
  }

  #field({ name, kind }, id) {
    const [box, label, mark] = ["div", "label", "span"].map((tag) => document.createElement(tag));
    label.textContent = name;
    label.htmlFor = id;
    mark.className = "mark";
    const field = kind === "numeric" ? number() : choice(kind.categorical.categories);
    field.id = id;
    this.#fields.set(name, field);
    this.marks.set(name, mark);
    box.append(label, field, mark);
    return box;
  }

  #row() {
    const row = {};
    for (const [name, field] of this.#fields) {
      // Half a number, as `-` or `1e`, is not sent: the field says itself that it is none.
      if (field.value !== "") row[name] = field.type === "number" ? Number(field.value) : field.value;
    }
    return Object.keys(row).length > 0 ? row : null;
  }
}

function number() {
  const field = document.createElement("input");
  field.type = "number";
  field.step = "any";
  field.placeholder = "missing";
  return field;
}

function choice(categories) {
  const field = document.createElement("select");
  field.append(new Option("missing", ""), ...categories.map((name) => new Option(name)));
  return field;
}
