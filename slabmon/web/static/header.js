// SPDX-License-Identifier: Apache-2.0
// The header: accuracy and cost of the figures.

import { $, make, say } from "./dom.js";

export function showHeader(header) {
  say($("host"), header.host);
  const facts = $("facts");
  if (facts.children.length !== header.facts.length) {
    facts.replaceChildren(...header.facts.map(() => make("div", {}, make("dt"), make("dd"))));
  }
  header.facts.forEach((fact, i) => {
    const box = facts.children[i];
    box.title = fact.name === "tracking" ? `Since ${new Date(header.since * 1000).toLocaleString()}. ${fact.help}` : fact.help;
    box.classList.toggle("attention", fact.attention);
    say(box.firstChild, fact.name);
    say(box.lastChild, fact.text);
  });
  showLimits(header);
}

function showLimits({ losses, limited }) {
  const lines = [
    ...losses.map(([reason, count]) => `lost ${count.toLocaleString("en")}: ${reason}`),
    ...limited.map(([name, state, reason]) => `${name} is ${state}: ${reason}`),
  ];
  const states = ["degraded", "off"].map(state => [state, limited.filter(item => item[1] === state).length]);
  const summary = [losses.length ? "lost events" : "", ...states.map(([state, count]) => count ? `${count} ${state}` : "")];
  const details = $("limits");
  details.hidden = !lines.length;
  details.classList.toggle("attention", losses.length > 0);
  say(details.querySelector("summary"), `Limits: ${summary.filter(Boolean).join(", ")}`);
  const list = details.querySelector("ul");
  if (list.children.length !== lines.length) list.replaceChildren(...lines.map(() => make("li")));
  lines.forEach((line, i) => say(list.children[i], line));
}
