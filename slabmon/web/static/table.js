// SPDX-License-Identifier: Apache-2.0
// The table: headings sort, and a row keeps its element while its figures change.

import { draw, make, say } from "./dom.js";

const WIDTH = 72, HEIGHT = 16;

export class Table {
  #head; #body; #columns = ""; #rows = new Map(); #on;

  // on.sort(column), on.select(row)
  constructor(table, on) {
    this.#head = table.tHead;
    this.#body = table.tBodies[0];
    this.#on = on;
    this.#body.addEventListener("click", event => {
      const line = event.target.closest("tr");
      if (line?.row && !getSelection().toString()) on.select(line.row);
    });
  }

  show(data, state) {
    const focused = document.activeElement.closest("tr"), name = document.activeElement.closest("th")?.dataset.name;
    this.#heading(data, state);
    const kept = new Map();
    let place = this.#body.firstChild;
    for (const row of data.rows) {
      const key = JSON.stringify(row.key);
      const line = this.#rows.get(key) ?? this.#line(data.columns, row, data.view.links.length > 0);
      this.#fill(line, data.columns, row, key === JSON.stringify(state.key));
      kept.set(key, line);
      if (line === place) place = place.nextSibling;
      else this.#body.insertBefore(line, place);
    }
    for (const [key, line] of this.#rows) if (kept.get(key) !== line) line.remove();
    this.#rows = kept;
    // An element that was moved or replaced has lost the focus.
    const line = kept.get(JSON.stringify(focused?.row?.key));
    this.#rove(line);
    if (focused && document.activeElement === document.body) {
      const again = line ?? this.#head.querySelector(`[data-name="${name}"]`);
      again?.querySelector("button")?.focus({ preventScroll: true });
    }
  }

  #heading({ columns, view }, state) {
    const names = columns.map(column => column.name).join() + view.name;
    if (names !== this.#columns) {
      this.#columns = names;
      this.#rows.clear();
      this.#body.replaceChildren();
      this.#head.replaceChildren(make("tr", {}, ...columns.map(column => {
        const button = make("button", { type: "button", textContent: column.heading, title: column.help });
        button.addEventListener("click", () => this.#on.sort(column));
        const heading = make("th", { scope: "col", className: kind(column) }, button);
        heading.dataset.name = column.name;
        return heading;
      })));
    }
    for (const heading of this.#head.rows[0].cells) {
      const text = columns.find(column => column.name === heading.dataset.name).unit === "";
      const sorted = heading.dataset.name === view.sort;
      if (sorted) heading.setAttribute("aria-sort", text !== state.inverted ? "ascending" : "descending");
      else heading.removeAttribute("aria-sort");
    }
  }

  #line(columns, row, selectable) {
    const head = Math.max(0, columns.findIndex(column => column.name === "name"));
    const line = make("tr", {}, ...columns.map((column, i) => {
      if (i !== head) return make("td", { className: kind(column) });
      const inner = selectable ? make("button", { type: "button", tabIndex: -1 }) : make("span");
      return make("th", { scope: "row" }, inner);
    }));
    line.classList.toggle("selectable", selectable);
    return line;
  }

  #fill(line, columns, row, selected) {
    const state = columns.findIndex(column => column.name === "state");
    line.row = line.classList.contains("selectable") ? { ...row, name: rowName(columns, row) } : null;
    line.classList.toggle("selected", selected);
    if (state >= 0) line.dataset.state = row.texts[state];
    line.querySelector("th > button")?.setAttribute("aria-pressed", selected);
    columns.forEach((column, i) => {
      const cell = line.cells[i];
      const value = row.values[i];
      if (column.kind === "history") {
        spark(cell, value);
        return;
      }
      say(cell.firstElementChild ?? cell, row.texts[i].replace(/^ +/, indent => "\u00a0".repeat(indent.length)));
      cell.title = exact(column, value, row);
      cell.classList.toggle("zero", value === 0);
      cell.classList.toggle("unseen", !row.seen && row.texts[i].endsWith("?"));
    });
  }

  // Tab reaches one row, arrow keys the others (roving tabindex).
  #rove(line) {
    const buttons = this.#buttons();
    const chosen = line?.querySelector("button") ?? buttons.find(button => button.tabIndex === 0) ?? buttons[0];
    for (const button of buttons) button.tabIndex = button === chosen ? 0 : -1;
  }

  #buttons() {
    return [...this.#body.querySelectorAll("th > button")];
  }

  move(step) {
    const buttons = this.#buttons();
    const now = buttons.indexOf(document.activeElement);
    const next = now < 0 ? buttons[0] : buttons[Math.min(buttons.length - 1, Math.max(0, now + step))];
    if (!next) return;
    next.focus();
    this.#rove(next.closest("tr"));
  }

  row(key) {
    return this.#rows.get(JSON.stringify(key))?.row;
  }
}

// Labels that say more about a row and do not name it.
const DESCRIPTIONS = ["aliases", "caller", "component", "context", "device", "family", "finding", "state"];

function kind(column) {
  return column.unit ? `number ${column.kind}` : column.wide ? `${column.kind} wide` : column.kind;
}

function rowName(columns, row) {
  const names = (column, i) => column.kind === "label" && !column.unit && (i === 0 || !DESCRIPTIONS.includes(column.name));
  const labels = row.texts.filter((text, i) => names(columns[i], i) && text !== "-");
  return [...new Set(labels)].slice(0, 2).join(" ").trim();
}

function exact(column, value, { seen }) {
  if (column.name === "aliases") return value ?? "";
  if (typeof value !== "number") return "";
  const text = `${value.toLocaleString("en", { maximumFractionDigits: 9 })} ${column.unit}`;
  return seen || !["estimate", "growth"].includes(column.kind) ? text
    : `${text} at most: not all frees can be observed`;
}

// Draws a line through values at equal intervals; null is a gap.
function spark(cell, values) {
  if (!values || values.length < 2) {
    cell.replaceChildren();
    return;
  }
  const known = values.filter(value => value !== null);
  const low = Math.min(...known), range = Math.max(...known) - low;
  // Changes of less than a hundredth are drawn flat.
  const flat = range <= 0.01 * (low + range);
  const d = values.map((value, i) => {
    if (value === null) return "";
    const x = 1 + i * (WIDTH - 2) / (values.length - 1);
    const y = flat ? HEIGHT / 2 : HEIGHT - 2 - (value - low) * (HEIGHT - 4) / range;
    // A single point is drawn as a short line.
    const connected = i > 0 && values[i - 1] !== null;
    return `${connected ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}${connected ? "" : "h.1"}`;
  }).join("");
  const line = cell.querySelector("path");
  if (line) line.setAttribute("d", d);
  else cell.replaceChildren(draw("svg", { width: WIDTH, height: HEIGHT, class: "spark", "aria-hidden": "true" },
    draw("path", { d })));
}
