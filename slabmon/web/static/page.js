// SPDX-License-Identifier: Apache-2.0
// The live page: polls the daemon and shows its answers.

import { Chart } from "./chart.js";
import { $, clock, day, make, say } from "./dom.js";
import { showHeader } from "./header.js";
import { Gone, Refused, get, url } from "./server.js";
import { ROWS, charted, href, query, read } from "./state.js";
import { Table } from "./table.js";
import { Times } from "./times.js";

const AGAIN = 4000, CHART_AGAIN = 10000, TYPING = 250, NOTICE = 20000;

let state = read();
let views = null, data = null, selected = null;
let paused = false, held = null, turn = 0, timer = 0;
let answered = Date.now(), noticeUntil = 0;
let chartAsked = "", chartAt = 0, shownAt = null;

const table = new Table(document.querySelector("#rows table"), {
  sort: column => change({ sort: column.name, offset: 0,
                           inverted: data.view.sort === column.name && !state.inverted }),
  select: row => change(JSON.stringify(row.key) === JSON.stringify(state.key)
    ? { key: null, name: "" } : { key: row.key, name: row.name }),
});
const times = new Times(go);
const charts = [new Chart($("figure"), go), new Chart($("rates"), go)];

// Changes the view without an entry in the browser's history.
function change(changes) {
  state = { ...state, ...changes };
  history.replaceState(null, "", href(state));
  refresh();
}

// Shows a past moment, null: the present.
function go(at) {
  setPaused(false);
  state = { ...state, at };
  history.pushState(null, "", href(state));
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  const current = ++turn;
  let gone = false;
  try {
    if (!views) showViews(await get("views"));
    document.body.classList.toggle("seeking", state.at !== shownAt);
    const answer = await rows();
    if (current !== turn) return;
    show(answer);
    await refreshChart(current);
  } catch (error) {
    if (current !== turn) return;
    document.body.classList.remove("seeking");
    if (error instanceof Refused) refuse(error.message);
    else if (error instanceof Gone) lose(error.message);
    else throw error;
    gone = error instanceof Gone;
  } finally {
    if (current === turn) later(gone);
  }
}

// The past does not change: it is requested again only if there was no answer.
function later(gone = false) {
  clearTimeout(timer);
  if (!document.hidden && (gone || (!paused && state.at === null))) timer = setTimeout(refresh, AGAIN);
}

// Fetches the table; while paused, of the moment shown, as long as the daemon holds it.
async function rows() {
  const asked = { offset: state.offset, limit: ROWS };
  try {
    return await get("table", { ...query(state, held), ...asked });
  } catch (error) {
    if (held === null || state.at !== null || !error.lost) throw error;
    const answer = await get("table", { ...query(state), ...asked });
    held = answer.header.at;
    return answer;
  }
}

function showViews(answer) {
  views = answer.views;
  say($("version"), `slabmon ${answer.version}`);
  $("metrics").href = answer.metrics;
  $("views").replaceChildren(...views.map(view =>
    make("a", { textContent: view.name, title: view.title })));
}

// Returns a link to another view of the same moment.
function here(changes) {
  return href({ at: state.at, ...changes });
}

function show(answer) {
  if (data && answer.version !== data.version) location.reload();
  if (answer.rows.length === 0 && state.offset > 0) {
    change({ offset: 0 });
    return;
  }
  const restarted = data && state.at === null && shownAt === null && answer.header.since !== data.header.since;
  data = answer;
  shownAt = state.at;
  answered = Date.now();
  if (restarted) noticeUntil = answered + NOTICE;
  const notice = answered < noticeUntil
    ? `slabmon restarted tracking at ${clock(answer.header.since)}: counters and charts begin there.` : "";
  banner(answer.problem ? `These figures are ${Math.round(answer.age)} s old: ${answer.problem}.` : notice, Boolean(answer.problem));
  showHeader(answer.header);
  showClock();
  times.show(answer.history, state.at, answer.header.at);
  refuse("");
  table.show(answer, state);
  showPlace();
  showPages();
  showSelected();
}

function showClock() {
  const how = state.at !== null ? "RECORDED" : paused ? "PAUSED, as of" : "as of";
  say($("clock"), `${how} ${day(data.header.at)}`);
  document.body.classList.toggle("recorded", state.at !== null);
  document.body.classList.remove("seeking");
  $("pause").disabled = state.at !== null;
}

function banner(text, bad) {
  say($("banner"), text);
  $("banner").hidden = !text;
  document.body.classList.toggle("stale", bad);
}

function lose(problem) {
  banner(`${problem} (last answer at ${clock(answered / 1000)}). Retrying.`, true);
}

function refuse(problem) {
  say($("refused"), problem);
  $("refused").hidden = !problem;
  $("filter").setAttribute("aria-invalid", Boolean(problem));
}

// Shows the current view and the path to it.
function showPlace() {
  for (const link of $("views").children) {
    link.href = here({ view: link.textContent });
    if (link.textContent === state.view && !state.path.length) {
      const arrived = !link.hasAttribute("aria-current");
      link.setAttribute("aria-current", "page");
      if (arrived) link.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    else link.removeAttribute("aria-current");
  }
  say($("note"), data.view.note);
  $("note").hidden = !data.view.note;
  say($("title"), state.path.length ? data.view.title.split(" where ")[0] : data.view.title);
  document.title = `slabmon: ${state.path.length ? state.path.at(-1)[3] + " " : ""}${$("title").textContent}`;
  const trail = [make("a", { href: here({ view: state.view }), textContent: state.view })];
  state.path.forEach(([title, , , name], i) => trail.push(" → ", make("b", { textContent: name }), " → ",
    make("a", { href: here({ view: state.view, path: state.path.slice(0, i + 1) }), textContent: title })));
  $("path").hidden = !state.path.length;
  if ($("path").textContent !== trail.map(part => part.textContent ?? part).join("")) $("path").replaceChildren(...trail);
  if (document.activeElement !== $("filter")) $("filter").value = state.filter;
  $("every").checked = state.every;
  $("csv").href = url("table.csv", query(state, held));
  $("json").href = url("table.json", query(state, held));
}

function showPages() {
  const { offset, matching, total, rows } = data;
  const counts = state.filter ? `${matching.toLocaleString("en")} matching, ${total.toLocaleString("en")} in total` : total.toLocaleString("en");
  say($("count"), rows.length ? `${offset + 1} to ${offset + rows.length} of ${counts}` : total ? "No row matches." : "No rows.");
  $("back").disabled = offset === 0;
  $("next").disabled = offset + rows.length >= matching;
}

function showSelected() {
  selected = state.key === null ? null : table.row(state.key) ?? selected;
  const { name } = charted(state);
  say($("what"), name || `all ${state.view}`);
  const links = selected ? data.view.links.flatMap((title, i) => selected.links[i] ? [make("a", {
    href: here({ view: state.view, path: [...state.path, [title, selected.links[i], selected.key, selected.name]] }),
    textContent: title })] : []) : [];
  const old = [...$("links").children].map(link => link.href).join();
  if (old !== links.map(link => link.href).join()) $("links").replaceChildren(...links);
}

async function refreshChart(current) {
  const { asked } = charted(state, held);
  const wanted = JSON.stringify({ ...asked, filter: "", sort: "" }) + data.header.since;
  if (wanted === chartAsked && Date.now() - chartAt < CHART_AGAIN) return;
  const answer = await get("chart", { ...asked, filter: "" });
  if (current !== turn) return;
  [chartAsked, chartAt] = [wanted, Date.now()];
  const [figure, ...rates] = answer.problem ? [] : answer.lines;
  const shown = { times: answer.times ?? [], moment: state.at === null ? null : data.header.at, pickable: Boolean(data.history) };
  charts[0].show({ ...shown, lines: figure ? [figure] : [], error: answer.error });
  charts[1].show({ ...shown, lines: rates });
  $("charts").hidden = Boolean(answer.problem);
  say($("nochart"), answer.problem && state.key !== null ? `No chart: ${answer.problem}.` : "");
  $("nochart").hidden = !$("nochart").textContent;
  $("detail").hidden = Boolean(answer.problem) && state.key === null;
}

function setPaused(wanted) {
  paused = wanted;
  held = paused && data ? data.header.at : null;
  $("pause").setAttribute("aria-pressed", paused);
  document.body.classList.toggle("paused", paused);
}

// Sorting and filtering work on while paused, over the moment shown: the refresh makes the daemon
// hold on to it.
function pause() {
  if (state.at !== null) return;
  setPaused(!paused);
  if (data) showClock();
  refresh();
}

const KEYS = {
  "/": () => $("filter").focus(),
  p: pause,
  t: () => times.focus(),
  "[": () => times.step(-1),
  "]": () => times.step(1),
  "?": () => $("help").showModal(),
  j: () => table.move(1), ArrowDown: () => table.move(1),
  k: () => table.move(-1), ArrowUp: () => table.move(-1),
  Escape: () => change({ key: null, name: "" }),
};

addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
  if (event.target.matches("input")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  // Outside of rows, arrow keys scroll as usual.
  if (event.key.startsWith("Arrow") && !event.target.closest("tbody")) return;
  if (!KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
addEventListener("hashchange", async () => {
  state = read();
  if (state.at !== null) setPaused(false);
  selected = null;
  await refresh();
  $("title").focus({ preventScroll: true });
});
document.addEventListener("visibilitychange", () => (document.hidden || paused || state.at !== null ? later() : refresh()));
let typing = 0;
$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ filter: $("filter").value.trim(), offset: 0 }), TYPING);
});
$("every").addEventListener("change", () => change({ every: $("every").checked }));
$("back").addEventListener("click", () => change({ offset: Math.max(0, state.offset - ROWS) }));
$("next").addEventListener("click", () => change({ offset: state.offset + ROWS }));
$("pause").addEventListener("click", pause);
$("keys").addEventListener("click", () => $("help").showModal());
refresh();
