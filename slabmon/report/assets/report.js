// SPDX-License-Identifier: Apache-2.0
/** Sets up the page: tabs, search, keys. */
{
  const data = JSON.parse(document.getElementById("data").textContent);
  for (const part of [...data.graphs, ...data.maps]) part.tree = linked(part.tree);

  const find = document.getElementById("find");
  const flame = new Flame(document.getElementById("flame"), document.getElementById("flame-status"));
  const map = new Treemap(document.getElementById("map"), document.getElementById("map-status"),
    document.getElementById("map-out"));

  const choose = (tabs, chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
  };
  /** Makes tabs with one tab stop and arrow keys between them (WAI-ARIA). */
  const tabbed = (selector, open) => {
    const tabs = [...document.querySelectorAll(selector)];
    const select = (tab) => {
      choose(tabs, tab);
      open(tab);
    };
    tabs.forEach((tab, i) => {
      tab.addEventListener("click", () => select(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step) return;
        const next = tabs[(i + step + tabs.length) % tabs.length];
        next.focus();
        select(next);
      });
    });
    return { tabs, select };
  };

  const graphs = tabbed("[data-graph]", (tab) => {
    const graph = data.graphs[tab.dataset.graph];
    document.getElementById("flame-note").textContent = graph.note;
    flame.show(graph);
    flame.search(find.value);
  });
  const maps = tabbed("[data-map]", (tab) => map.show(data.maps[tab.dataset.map].tree));
  graphs.select(graphs.tabs.find((tab) => tab.id === `tab-${data.first}`));
  maps.select(maps.tabs[0]);

  find.addEventListener("input", () => flame.search(find.value));
  document.getElementById("reset").addEventListener("click", () => {
    find.value = "";
    flame.search("");
    flame.reset();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== find) {
      event.preventDefault();
      find.focus();
    }
  });
}
