// SPDX-License-Identifier: Apache-2.0
/** A treemap of up to three levels below the root, squarified (Bruls et al., 2000). */
class Treemap {
  constructor(element, status, out) {
    this.element = element;
    this.status = status;
    this.out = out;
    const cellOf = (event) => event.target.closest("[data-node]");
    element.addEventListener("click", (event) => {
      const cell = cellOf(event);
      if (cell) this.zoom(Number(cell.dataset.node));
    });
    element.addEventListener("keydown", (event) => {
      const cell = cellOf(event);
      if (event.key === "Enter" && cell) this.zoom(Number(cell.dataset.node));
      else if (event.key === "Backspace" || event.key === "Escape") this.back();
      else return;
      event.preventDefault();
    });
    element.addEventListener("mousemove", (event) => {
      const cell = cellOf(event);
      if (cell) tip.show(this.describe(Number(cell.dataset.node)), event.clientX, event.clientY);
      else tip.hide();
    });
    element.addEventListener("mouseleave", () => tip.hide());
    out.addEventListener("click", () => this.back());
    new ResizeObserver(() => this.draw()).observe(element);
  }

  show(tree) {
    this.tree = tree;
    this.zoom(0);
  }

  zoom(node) {
    if (this.tree.end[node] === node + 1 && node) return;
    this.root = node;
    this.draw();
  }

  back() {
    this.zoom(Math.max(0, this.tree.parent[this.root]));
  }

  describe(node) {
    const tree = this.tree;
    const path = [];
    for (let at = node; at > 0; at = tree.parent[at]) path.unshift(nameOf(tree, at));
    const lines = [path.join(" › "), bytes(tree.size[node]) + " (exact)",
      `${percent(tree.size[node], tree.size[0])} of all`];
    if (tree.objects[node]) lines.push(counted(tree.objects[node], "resource"));
    return lines.join("\n");
  }

  draw() {
    if (!this.tree) return;
    const tree = this.tree;
    this.cells = document.createDocumentFragment();
    const box = { x: 0, y: 0, w: this.element.clientWidth, h: this.element.clientHeight };
    this.inside(this.root, box, 0);
    this.element.replaceChildren(this.cells);
    this.out.disabled = this.root === 0;
    const where = this.root ? this.describe(this.root).replaceAll("\n", " · ") : "";
    this.status.textContent = tree.count < 2 ? "No managed memory." :
      where || `${bytes(tree.size[0])} in ${counted(children(tree, 0).length, "device")}`;
  }

  inside(node, box, level) {
    for (const [child, place] of squarified(this.tree, node, box)) {
      if (place.w < 2 || place.h < 2) continue;
      this.cell(child, place, level);
    }
  }

  /** Draws a node, and its children if there is room. A chain of single children is one cell. */
  cell(node, box, level) {
    const tree = this.tree;
    const names = [nameOf(tree, node)];
    let last = node;
    for (let inner = children(tree, last); inner.length === 1; inner = children(tree, last)) {
      last = inner[0];
      names.push(nameOf(tree, last));
    }
    const cell = document.createElement("div");
    cell.dataset.node = node;
    for (const [key, size] of [["left", box.x], ["top", box.y], ["width", box.w], ["height", box.h]]) {
      cell.style[key] = size + "px";
    }
    paint(cell, tree, level ? last : node, false);
    if (box.w > 30 && box.h > 15) cell.textContent = names.join(" › ");
    cell.tabIndex = 0;
    cell.setAttribute("role", "treeitem");
    cell.setAttribute("aria-label", this.describe(node));
    this.cells.append(cell);
    if (level < 2 && box.w > 46 && box.h > 40 && tree.end[last] > last + 1) {
      const inner = { x: box.x + 3, y: box.y + 18, w: box.w - 6, h: box.h - 21 };
      this.inside(last, inner, level + 1);
    }
  }
}

/** Returns boxes for a node's children: rows along the shorter side, as long as they get squarer. */
function squarified(tree, node, box) {
  const boxes = [];
  const queue = children(tree, node).filter((child) => tree.size[child] > 0);
  const total = queue.reduce((sum, child) => sum + tree.size[child], 0);
  if (!total) return boxes;
  const scale = (box.w * box.h) / total;
  let { x, y, w, h } = box;
  let row = [];
  let area = 0;
  const worst = (sum, largest, smallest) => {
    const side = Math.min(w, h) ** 2;
    return Math.max((side * largest) / sum ** 2, sum ** 2 / (side * smallest));
  };
  const place = () => {
    const upright = w >= h;
    const thick = area / (upright ? h : w);
    let along = upright ? y : x;
    for (const [child, size] of row) {
      const long = size / thick;
      boxes.push([child, upright ? { x, y: along, w: thick, h: long } : { x: along, y, w: long, h: thick }]);
      along += long;
    }
    if (upright) { x += thick; w -= thick; } else { y += thick; h -= thick; }
    row = [];
    area = 0;
  };
  for (const child of queue) {
    const size = tree.size[child] * scale;
    const largest = row.length ? row[0][1] : size;
    if (row.length && worst(area + size, largest, size) > worst(area, largest, row[row.length - 1][1])) place();
    row.push([child, size]);
    area += size;
  }
  place();
  return boxes;
}
