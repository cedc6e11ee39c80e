// SPDX-License-Identifier: Apache-2.0
// The state of the page is the fragment of its URL, so that links, reload and the back button work.

// path: [[title of a link, values it was followed with, key and name of its row]]
// at: Unix seconds of a past moment, null: the present
// A link without a view is of before there was an overview: it is of caches.
const PLAIN = { view: "caches", path: [], sort: "", inverted: false, filter: "", offset: 0,
                every: false, key: null, name: "", at: null };
const FIRST = "overview";
export const ROWS = 100;

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = { ...PLAIN, ...(location.hash.length > 1 ? {} : { view: FIRST }) };
  for (const name of Object.keys(PLAIN)) {
    try {
      const value = JSON.parse(given.get(name));
      if (value !== null && (PLAIN[name] === null || typeof value === typeof PLAIN[name])) state[name] = value;
    } catch { /* not our JSON: keep the default */ }
  }
  if (typeof state.at !== "number") state.at = null;
  state.path = Array.isArray(state.path) ? state.path.filter(Array.isArray) : [];
  return state;
}

export function href(changes, base = PLAIN) {
  const state = { ...base, ...changes };
  const given = new URLSearchParams();
  for (const [name, plain] of Object.entries(PLAIN)) {
    const text = JSON.stringify(state[name]);
    if (name === "view" || text !== JSON.stringify(plain)) given.set(name, text);
  }
  return `#${given}`;
}

// Returns the query of the table; held: Unix seconds of the moment shown while paused.
export function query(state, held = null) {
  const asked = { view: state.view, path: JSON.stringify(state.path.map(step => step.slice(0, 2))),
                  filter: state.filter };
  if (state.sort) asked.sort = state.sort;
  if (state.inverted) asked.inverted = "1";
  if (state.every) asked.columns = "all";
  if (state.at ?? held) asked.at = String(state.at ?? held);
  return asked;
}

// Returns the query of the chart: of the selected row, else of the row that the path began with.
export function charted(state, held = null) {
  const from = state.key === null && state.path.length ? state.path[0] : null;
  const key = from ? from[2] : state.key;
  const asked = query({ ...state, path: from ? [] : state.path }, held);
  if (key !== null) asked.key = JSON.stringify(key);
  return { asked, name: from ? from[3] : state.name };
}
