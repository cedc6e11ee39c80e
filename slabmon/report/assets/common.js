// SPDX-License-Identifier: Apache-2.0
"use strict";

const KINDS = ["function", "module", "cache", "label", "remark"];

/** One decimal, rounded half to even as Python does. */
const DECIMAL = new Intl.NumberFormat("en", {
  minimumFractionDigits: 1, maximumFractionDigits: 1, roundingMode: "halfEven", useGrouping: false,
});

/** Formats bytes in binary multiples. */
function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = Math.abs(value);
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return (value < 0 ? "-" : "") + (unit ? DECIMAL.format(size) : String(size)) + " " + units[unit];
}

/** Formats a count: 1 object, 2,000 objects. */
function counted(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function percent(part, whole) {
  return (whole ? (100 * part) / whole : 0).toFixed(2) + " %";
}

/** Adds `parent` and `end` (of the subtree) to the columns of a tree in preorder. */
function linked(tree) {
  const count = tree.depth.length;
  const parent = new Int32Array(count).fill(-1);
  const end = new Int32Array(count).fill(count);
  const open = [];
  for (let node = 0; node < count; node += 1) {
    while (open.length > tree.depth[node]) end[open.pop()] = node;
    if (open.length) parent[node] = open[open.length - 1];
    open.push(node);
  }
  return { ...tree, count, parent, end };
}

function nameOf(tree, node) {
  return tree.names[tree.frame[node]];
}

function kindOf(tree, node) {
  return KINDS[tree.kinds[tree.frame[node]]];
}

/** Returns the children of a node: each begins where the previous subtree ends. */
function children(tree, node) {
  const nodes = [];
  for (let child = node + 1; child < tree.end[node]; child = tree.end[child]) nodes.push(child);
  return nodes;
}

/** Hashes a text to a number in [0, 1): FNV-1a. */
function hash(text) {
  let value = 2166136261;
  for (let i = 0; i < text.length; i += 1) value = Math.imul(value ^ text.charCodeAt(i), 16777619);
  return ((value ^ (value >>> 15)) >>> 0) / 4294967296;
}

/** Sets class and colour of a node. In a difference the colour shows how much of it grew or shrank. */
function paint(element, tree, node, diff) {
  const kind = kindOf(tree, node);
  if (diff && kind !== "remark" && tree.net[node] !== 0) {
    element.classList.add(tree.net[node] > 0 ? "grew" : "shrank");
    element.style.setProperty("--share", Math.abs(tree.net[node]) / tree.size[node]);
    return;
  }
  element.classList.add(diff && tree.net[node] === 0 ? "remark" : kind);
  const name = nameOf(tree, node);
  if (kind === "function") element.style.setProperty("--hue", 18 + Math.floor(34 * hash(name)));
  if (kind === "module") {
    const module = name.includes(" [") ? name.slice(name.lastIndexOf(" [")) : name;
    element.style.setProperty("--hue", 85 + Math.floor(95 * hash(module)));
  }
}

const tip = {
  element: document.getElementById("tip"),
  show(text, x, y) {
    this.element.textContent = text;
    this.element.hidden = false;
    const box = this.element.getBoundingClientRect();
    const left = Math.min(x + 14, innerWidth - box.width - 8);
    const top = y + 18 + box.height > innerHeight ? y - box.height - 10 : y + 18;
    this.element.style.left = Math.max(4, left) + "px";
    this.element.style.top = Math.max(4, top) + "px";
  },
  hide() {
    this.element.hidden = true;
  },
};
