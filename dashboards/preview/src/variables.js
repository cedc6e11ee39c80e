// SPDX-License-Identifier: Apache-2.0
// Variables of a dashboard, and the macros of data links.
import { getFieldDisplayValuesProxy } from '@grafana/data';

const escaped = (value) => value.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&').replaceAll('\\', '\\\\');

/** Look up the variables of a dashboard. `chosen` maps names to values; all values otherwise. */
export async function resolved(board, prometheus, range, chosen) {
  const found = {};
  for (const variable of board.templating.list) {
    const { name, label, type } = variable;
    if (type === 'datasource') {
      found[name] = { label, text: 'Prometheus', regex: '', values: ['prometheus'] };
      continue;
    }
    const values = await prometheus.labelValues(replaced(variable.query, found), range);
    const own = chosen.getAll(`var-${name}`);
    found[name] = own.length
      ? { label, text: own.join(' + '), regex: `(${own.map(escaped).join('|')})`, values: own }
      : { label, text: 'All', regex: variable.allValue, values: ['$__all'] };
    if (!values.length) {
      found[name].text = 'None';
    }
  }
  return found;
}

/** Fill in variables in a query. */
export function replaced(text, variables) {
  return text.replace(/\$(?!__)(\w+)/g, (whole, name) => variables[name]?.regex ?? whole);
}

/** Return the function that fills in variables and macros of links and titles. */
export function interpolation(variables, range, theme) {
  const parameters = (name) =>
    variables[name].values.map((value) => `var-${name}=${encodeURIComponent(value)}`).join('&');
  const macros = (text, scoped) => {
    const { field, frame, rowIndex } = scoped?.__dataContext?.value ?? {};
    return text.replace(/\$\{([^}]+)\}/g, (whole, inside) => {
      const [, label] = /^__field\.labels\.(\w+)$/.exec(inside) ?? [];
      const [, column] = /^__data\.fields\.(\w+)$/.exec(inside) ?? [];
      if (inside === '__url_time_range') {
        return `from=${range.from.valueOf()}&to=${range.to.valueOf()}`;
      }
      if (label) {
        return encodeURIComponent(field?.labels?.[label] ?? whole);
      }
      if (column) {
        const row = getFieldDisplayValuesProxy({ frame, rowIndex, theme });
        return row[column] ? encodeURIComponent(row[column].toString()) : whole;
      }
      const [, name] = /^(\w+):queryparam$/.exec(inside) ?? [];
      return variables[name] ? parameters(name) : whole;
    });
  };
  return (text, scoped) => (text ? macros(text, scoped) : text);
}
