// SPDX-License-Identifier: Apache-2.0
import { applyFieldOverrides, cacheFieldDisplayNames, FieldType, transformDataFrame } from '@grafana/data';
import { PanelChrome, useTheme2 } from '@grafana/ui';
import { Component, useEffect, useState } from 'react';
import { lastValueFrom } from 'rxjs';
import { fieldConfig } from './fields.js';
import { KINDS } from './panels.jsx';
import { replaced } from './variables.js';

async function loaded(panel, { prometheus, range, variables, replace, theme, timeZone }, width) {
  const fill = (text) => replaced(text, variables);
  const answers = await Promise.all(
    panel.targets.map((target) => prometheus.frames(target, range, Math.round(width), fill)),
  );
  const data = await lastValueFrom(transformDataFrame(panel.transformations ?? [], answers.flat()));
  const { config, registry } = fieldConfig(panel);
  const frames = applyFieldOverrides({
    data, fieldConfig: config, fieldConfigRegistry: registry, replaceVariables: replace, theme, timeZone,
  });
  cacheFieldDisplayNames(frames);
  return { frames, config };
}

// Links with a macro that nothing filled in.
function deadLinks(frames) {
  const hrefs = frames.flatMap((frame) =>
    frame.fields
      .filter(({ type }) => frame.length && type !== FieldType.time)
      .flatMap((field) => field.getLinks({ valueRowIndex: 0 }).map(({ href }) => href)),
  );
  return hrefs.filter((href) => /\$(\{|%7B)/.test(href));
}

class Guarded extends Component {
  state = { error: null };
  static getDerivedStateFromError(error) {
    return { error };
  }
  componentDidCatch(error) {
    this.props.report({ problem: String(error) });
  }
  render() {
    return this.state.error ? String(this.state.error) : this.props.children;
  }
}

/** Draw a panel. `report` is told once what is wrong with it, or that it is empty. */
export function Panel({ panel, context, report, width, height }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState('');
  const theme = useTheme2();
  useEffect(() => {
    loaded(panel, { ...context, theme }, width).then(
      (result) => {
        setFound(result);
        const empty = result.frames.every((frame) => !frame.length);
        report({ empty, problem: deadLinks(result.frames).join(' ') });
      },
      (failure) => {
        setError(String(failure));
        report({ problem: String(failure) });
      },
    );
  }, []);
  const Kind = KINDS[panel.type];
  return (
    <PanelChrome
      title={panel.title}
      description={panel.description}
      width={width}
      height={height}
      statusMessage={error}
    >
      {(innerWidth, innerHeight) => {
        if (!found) {
          return null;
        }
        if (found.frames.every((frame) => !frame.length)) {
          return <div className="empty">No data</div>;
        }
        return (
          <Guarded report={report}>
            <Kind
              panel={panel} width={innerWidth} height={innerHeight} range={context.range}
              timeZone={context.timeZone} replace={context.replace} {...found}
            />
          </Guarded>
        );
      }}
    </PanelChrome>
  );
}
