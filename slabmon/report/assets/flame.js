// SPDX-License-Identifier: Apache-2.0
/** A flame graph with the root on top. Nodes too narrow to be seen are not drawn. */
class Flame {
  constructor(element, status) {
    this.element = element;
    this.status = status;
    this.drawn = new Map();
    element.addEventListener("click", (event) => this.zoom(this.nodeOf(event)));
    element.addEventListener("mousemove", (event) => {
      const node = this.nodeOf(event);
      if (node === null) tip.hide();
      else tip.show(this.describe(node), event.clientX, event.clientY);
    });
    element.addEventListener("mouseleave", () => tip.hide());
    element.addEventListener("focusin", (event) => {
      const node = this.nodeOf(event);
      if (node !== null) this.enter(node);
    });
    element.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(element);
  }

  show(graph) {
    this.graph = graph;
    this.tree = graph.tree;
    this.root = 0;
    this.current = 0;
    this.search("");
  }

  nodeOf(event) {
    const cell = event.target.closest("[data-node]");
    return cell ? Number(cell.dataset.node) : null;
  }

  zoom(node) {
    if (node === null) return;
    this.root = node;
    this.current = node;
    this.draw();
  }

  reset() {
    this.zoom(0);
  }

  /** Marks frames that contain the text and sums their bytes, each counted once. */
  search(text) {
    const tree = this.tree;
    const pattern = text.trim().toLowerCase();
    this.matched = null;
    if (pattern) {
      const hits = tree.names.map((name) => name.toLowerCase().includes(pattern));
      this.matched = new Set();
      this.matchedBytes = 0;
      let covered = 0;
      for (let node = 1; node < tree.count; node += 1) {
        if (!hits[tree.frame[node]]) continue;
        this.matched.add(node);
        if (node >= covered) {
          this.matchedBytes += tree.size[node];
          covered = tree.end[node];
        }
      }
    }
    this.draw();
  }

  describe(node) {
    const tree = this.tree;
    const size = tree.size[node];
    const error = tree.error[node];
    const lines = [nameOf(tree, node)];
    if (this.graph.diff) {
      lines.push(`${tree.net[node] > 0 ? "+" : ""}${bytes(tree.net[node])}` +
        (error ? ` ± ${bytes(error)}` : "") + ` net; ${bytes(size)} changed`);
    } else {
      lines.push(bytes(size) + (error ? ` ± ${bytes(error)}` : " (exact)"));
    }
    let share = `${percent(size, tree.size[0])} of all`;
    if (this.root) share += `, ${percent(size, tree.size[this.root])} of this view`;
    lines.push(share);
    if (tree.objects[node]) lines.push(counted(tree.objects[node], "object"));
    return lines.join("\n");
  }

  /** Returns positions as shares of the width, of which `root` takes all. */
  layout() {
    const { tree, root } = this;
    const left = new Float64Array(tree.count);
    const scale = tree.size[root] || 1;
    const shown = [];
    for (let node = root; node >= 0; node = tree.parent[node]) shown.unshift(node);
    const ancestors = shown.length - 1;
    const wide = 0.4 / Math.max(this.element.clientWidth, 300);
    for (let node = root; node < tree.end[root]; ) {
      let inner = left[node];
      for (const child of children(tree, node)) {
        left[child] = inner;
        inner += tree.size[child] / scale;
      }
      if (node !== root) shown.push(node);
      node += 1;
      while (node < tree.end[root] && tree.size[node] / scale < wide) node = tree.end[node];
    }
    return { left, scale, shown, ancestors };
  }

  draw() {
    if (!this.tree) return;
    const { tree, root } = this;
    const { left, scale, shown, ancestors } = this.layout();
    const pixels = this.element.clientWidth;
    const cells = document.createDocumentFragment();
    this.drawn = new Map();
    let deepest = 0;
    shown.forEach((node, i) => {
      const above = i < ancestors;
      const share = above ? 1 : tree.size[node] / scale;
      const cell = document.createElement("div");
      cell.dataset.node = node;
      cell.style.top = tree.depth[node] * 18 + "px";
      cell.style.left = (above ? 0 : left[node] * 100) + "%";
      cell.style.width = share * 100 + "%";
      paint(cell, tree, node, this.graph.diff);
      cell.classList.toggle("above", above);
      cell.classList.toggle("thin", share * pixels < 12);
      cell.classList.toggle("dim", this.matched !== null && !this.matched.has(node));
      if (share * pixels > 24) cell.textContent = nameOf(tree, node);
      cell.setAttribute("role", "treeitem");
      cell.setAttribute("aria-level", tree.depth[node] + 1);
      cell.setAttribute("aria-label", this.describe(node));
      cell.tabIndex = node === this.current ? 0 : -1;
      this.drawn.set(node, cell);
      cells.append(cell);
      deepest = Math.max(deepest, tree.depth[node]);
    });
    if (!this.drawn.has(this.current)) {
      this.current = root;
      this.drawn.get(root).tabIndex = 0;
    }
    const focused = this.element.contains(document.activeElement);
    this.element.replaceChildren(cells);
    this.element.style.height = (deepest + 1) * 18 + "px";
    if (focused) this.drawn.get(this.current).focus();
    this.report();
  }

  report() {
    const { tree, root } = this;
    if (tree.count < 2) {
      this.status.textContent = this.graph.diff ? "Nothing changed." : "No live memory.";
      return;
    }
    const error = tree.error[root] ? ` ± ${bytes(tree.error[root])}` : "";
    const figure = this.graph.diff ? `net ${bytes(tree.net[root])}` : bytes(tree.size[root]);
    let text = (root ? nameOf(tree, root) + ": " : "") + figure + error;
    if (this.matched) {
      text += ` · in ${counted(this.matched.size, "frame")}: ` +
        `${bytes(this.matchedBytes)}, ${percent(this.matchedBytes, tree.size[0])} of all`;
    }
    this.status.textContent = text;
  }

  enter(node) {
    const old = this.drawn.get(this.current);
    if (old) old.tabIndex = -1;
    this.current = node;
    const cell = this.drawn.get(node);
    cell.tabIndex = 0;
    const box = cell.getBoundingClientRect();
    tip.show(this.describe(node), box.left, box.bottom - 14);
  }

  key(event) {
    const tree = this.tree;
    const up = tree.parent[this.current];
    const beside = up < 0 ? [this.current] : children(tree, up);
    const index = beside.indexOf(this.current);
    const moves = {
      ArrowUp: () => up,
      ArrowDown: () => children(tree, this.current)[0],
      ArrowLeft: () => beside[index - 1],
      ArrowRight: () => beside[index + 1],
    };
    if (event.key in moves) {
      const cell = this.drawn.get(moves[event.key]());
      if (cell) cell.focus();
    } else if (event.key === "Enter" || event.key === " ") this.zoom(this.current);
    else if (event.key === "Backspace") this.zoom(Math.max(0, tree.parent[this.root]));
    else if (event.key === "Escape") this.reset();
    else return;
    event.preventDefault();
  }
}
