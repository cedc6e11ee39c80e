// SPDX-License-Identifier: Apache-2.0
// What is shown lives in the fragment of the URL: links, reloading and the back button just work.

// path: [[title of a link, values it was followed with, key and name of the row it started from]]
// at: a moment of the past in Unix seconds, null: the present
const PLAIN = { view: "caches", path: [], sort: "", inverted: false, filter: "", offset: 0,
                every: false, key: null, name: "", at: null };
export const ROWS = 100;

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = { ...PLAIN };
  for (const name of Object.keys(PLAIN)) {
    try {
      const value = JSON.parse(given.get(name));
      if (value !== null && (PLAIN[name] === null || typeof value === typeof PLAIN[name])) state[name] = value;
    } catch { /* a fragment that somebody edited */ }
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
    if (text !== JSON.stringify(plain)) given.set(name, text);
  }
  return `#${given}`;
}

// What the server is asked for; held: a moment that it still has, while the page is paused.
export function query(state, held = null) {
  const asked = { view: state.view, path: JSON.stringify(state.path.map(step => step.slice(0, 2))),
                  filter: state.filter };
  if (state.sort) asked.sort = state.sort;
  if (state.inverted) asked.inverted = "1";
  if (state.every) asked.columns = "all";
  if (state.at ?? held) asked.at = String(state.at ?? held);
  return asked;
}

// The query of the chart: of the selected row, else of the row all this was reached from.
export function charted(state, held = null) {
  const from = state.key === null && state.path.length ? state.path[0] : null;
  const key = from ? from[2] : state.key;
  const asked = query({ ...state, path: from ? [] : state.path }, held);
  if (key !== null) asked.key = JSON.stringify(key);
  return { asked, name: from ? from[3] : state.name };
}
