// SPDX-License-Identifier: Apache-2.0
// What this page draws. Anything else in a dashboard is a problem, not left out in silence;
// tests/unit/dashboards reads the same list.
import known from './known.json';

function unknown(what, found, names) {
  return Object.keys(found ?? {}).filter((name) => !names.includes(name)).map((name) => `${what}: ${name}`);
}

/** Return what of a dashboard is not drawn. */
export function notDrawn(board) {
  const missing = unknown('dashboard', board, known.board);
  for (const variable of board.templating.list) {
    if (!known.variables.includes(variable.type)) {
      missing.push(`variable: ${variable.type}`);
    }
  }
  for (const panel of board.panels) {
    const kind = known.panels[panel.type];
    const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
    missing.push(
      ...(kind ? [] : [`panel: ${panel.type}`]),
      ...unknown('panel', panel, known.panel),
      ...unknown(`${panel.type}: option`, panel.options, kind?.options ?? []),
      ...unknown(`${panel.type}: custom`, defaults.custom, kind?.custom ?? []),
      ...unknown('field', defaults, known.field),
      ...overrides.map(() => 'overrides'),
      ...(panel.targets ?? []).flatMap((target) => unknown('target', target, known.target)),
      ...(panel.transformations ?? [])
        .filter(({ id }) => !known.transformations.includes(id))
        .map(({ id }) => `transformation: ${id}`),
    );
  }
  return [...new Set(missing)];
}
