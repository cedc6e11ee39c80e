// SPDX-License-Identifier: Apache-2.0
// A dashboard of Grafana without its server. Parameters of the address: board (its file's
// address), prometheus (a server's address), from and to (Grafana's, such as now-6h), theme (light
// or dark), scrape (seconds), var-NAME (values of variables).
import './start.js';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import { createTheme, dateMath, dateTime, getTimeZone, ThemeContext } from '@grafana/data';
import { GlobalStyles, Icon, InlineField, Input } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { notDrawn } from './known.js';
import { Panel } from './Panel.jsx';
import { Prometheus } from './prometheus.js';
import { interpolation, resolved } from './variables.js';
import './page.css';

const COLUMNS = 24, ROW = 30, GAP = 8, MARGIN = 16; // pixels, as Grafana's grid

function Place({ at, width, children }) {
  const column = (width - GAP * (COLUMNS - 1)) / COLUMNS;
  const size = { width: at.w * column + (at.w - 1) * GAP, height: at.h * ROW + (at.h - 1) * GAP };
  const style = { ...size, left: at.x * (column + GAP), top: at.y * (ROW + GAP), position: 'absolute' };
  return <div style={style}>{children(size)}</div>;
}

function Board({ board, context, report }) {
  const width = document.documentElement.clientWidth - 2 * MARGIN;
  const bottom = Math.max(...board.panels.map(({ gridPos: { y, h } }) => y + h));
  return (
    <main style={{ padding: MARGIN }}>
      <h1>{board.title}</h1>
      <div className="variables">
        {Object.entries(context.variables).map(([name, { label, text }]) => (
          <InlineField key={name} label={label}>
            <Input value={text} readOnly width={Math.max(12, text.length + 3)} />
          </InlineField>
        ))}
      </div>
      <div style={{ position: 'relative', height: bottom * (ROW + GAP) }}>
        {board.panels.map((panel) => (
          <Place key={panel.id} at={panel.gridPos} width={width}>
            {(size) =>
              panel.type === 'row' ? (
                <h2 className="heading"><Icon name="angle-down" /> {panel.title}</h2>
              ) : (
                <Panel panel={panel} context={context} report={report(panel)} {...size} />
              )
            }
          </Place>
        ))}
      </div>
    </main>
  );
}

async function main() {
  const parameters = new URLSearchParams(location.search);
  const theme = createTheme({ colors: { mode: parameters.get('theme') ?? 'dark' } });
  const board = await (await fetch(parameters.get('board'))).json();
  const [from, to] = ['from', 'to'].map((name) => {
    const text = parameters.get(name) ?? board.time[name];
    return /^\d+$/.test(text) ? dateTime(Number(text)) : dateMath.toDateTime(text, { roundUp: name === 'to' });
  });
  const range = { from, to, raw: { from, to } };
  const prometheus = new Prometheus(
    parameters.get('prometheus'), 1000 * Number(parameters.get('scrape') ?? 15),
  );
  const variables = await resolved(board, prometheus, range, parameters);
  const replace = interpolation(variables, range, theme);
  const context = { prometheus, range, variables, replace, timeZone: getTimeZone() };
  // Read by the one who takes screenshots.
  const result = { problems: notDrawn(board), empty: [], missing: 0 };
  result.missing = board.panels.filter(({ type }) => type !== 'row').length;
  window.preview = result;
  const report = (panel) => {
    let first = true;
    return ({ problem, empty }) => {
      result.missing -= first ? 1 : 0;
      first = false;
      if (problem) {
        result.problems.push(`${panel.title}: ${problem}`);
      }
      if (empty) {
        result.empty.push(panel.title);
      }
    };
  };
  // Sizes of texts are measured while panels are drawn.
  await Promise.all([400, 500].map((weight) => document.fonts.load(`${weight} 14px Inter`)));
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Board board={board} context={context} report={report} />
    </ThemeContext.Provider>,
  );
}

main().catch((error) => {
  window.preview = { problems: [String(error)], empty: [], missing: 0 };
});
