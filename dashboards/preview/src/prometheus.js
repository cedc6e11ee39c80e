// SPDX-License-Identifier: Apache-2.0
// Prometheus' HTTP API, and its answers as the data frames that Grafana's data source returns.
import { FieldType, rangeUtil } from '@grafana/data';

const MOST_POINTS = 11_000; // Prometheus refuses longer answers

export class Prometheus {
  constructor(url, scrapeMs) {
    this.url = url;
    this.scrapeMs = scrapeMs;
  }

  async get(path, parameters) {
    const answer = await fetch(`${this.url}/api/v1/${path}?${new URLSearchParams(parameters)}`);
    const document = await answer.json();
    if (document.status !== 'success') {
      throw new Error(document.error);
    }
    return document.data;
  }

  /** Return the values of a label, by a variable's query: label_values(SELECTOR, LABEL). */
  async labelValues(query, range) {
    const [, selector, label] = /^label_values\((.+), (\w+)\)$/.exec(query);
    return this.get(`label/${label}/values`, {
      'match[]': selector,
      start: range.from.valueOf() / 1000,
      end: range.to.valueOf() / 1000,
    });
  }

  /** Return the frames of a target drawn `width` pixels wide. `replace` fills in variables. */
  async frames(target, range, width, replace) {
    const { intervalMs } = rangeUtil.calculateInterval(range, width, `${this.scrapeMs}ms`);
    const stepMs = Math.max(intervalMs, (range.to - range.from) / MOST_POINTS);
    const rate = Math.max(stepMs + this.scrapeMs, 4 * this.scrapeMs);
    const query = replace(target.expr.replaceAll('$__rate_interval', `${rate / 1000}s`));
    if (target.instant) {
      const { result } = await this.get('query', { query, time: range.to.valueOf() / 1000 });
      return shaped(
        target.format === 'table'
          ? [table(result, target)]
          : result.map(({ metric, value }) => curve({ metric, values: [value] }, target, stepMs)),
        target,
      );
    }
    const step = stepMs / 1000;
    const [start, end] = [range.from, range.to].map((at) => Math.floor(at / stepMs) * step);
    const { result } = await this.get('query_range', { query, start, end, step });
    return shaped(result.map((found) => curve(found, target, stepMs)), target);
  }
}

function shaped(frames, target) {
  return target.format === 'heatmap' ? buckets(frames) : frames;
}

function legend(target, labels) {
  return target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '');
}

// Steps without a value are gaps: null.
function filled(values, stepMs) {
  const found = new Map(values.map(([at, value]) => [Math.round(at * 1000), number(value)]));
  const [first, last] = [values[0], values.at(-1)].map(([at]) => Math.round(at * 1000));
  const times = Array.from({ length: Math.round((last - first) / stepMs) + 1 }, (_, i) => first + i * stepMs);
  return { times, numbers: times.map((at) => found.get(at) ?? null) };
}

function number(text) {
  return Number(text.replace('Inf', 'Infinity'));
}

function curve({ metric, values }, target, stepMs) {
  const name = legend(target, metric);
  const { times, numbers } = filled(values, stepMs);
  return {
    name,
    refId: target.refId,
    length: times.length,
    fields: [
      {
        name: 'Time',
        type: FieldType.time,
        config: { interval: stepMs },
        values: times,
      },
      {
        name: 'Value',
        type: FieldType.number,
        labels: metric,
        config: { displayNameFromDS: name },
        values: numbers,
      },
    ],
  };
}

// A row for each series, a column for each label.
function table(result, target) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const column = (name, type, config, values) => ({ name, type, config, values });
  return {
    refId: target.refId,
    length: result.length,
    fields: [
      column('Time', FieldType.time, {}, result.map(({ value }) => value[0] * 1000)),
      ...labels.map((label) =>
        column(label, FieldType.string, { filterable: true }, result.map(({ metric }) => metric[label] ?? '')),
      ),
      column('Value', FieldType.number, {}, result.map(({ value }) => number(value[1]))),
    ],
  };
}

// Cumulative buckets become counts of their own, in one frame.
function buckets(frames) {
  if (!frames.length) {
    return [];
  }
  const bound = (frame) => number(frame.fields[1].labels.le);
  const sorted = frames.sort((one, other) => bound(one) - bound(other));
  const counts = sorted.map(({ name, fields }, index) => {
    const below = index ? sorted[index - 1].fields[1].values : [];
    const values = fields[1].values.map((value, at) => value - (below[at] ?? 0));
    return { ...fields[1], name, values };
  });
  return [{ ...sorted[0], fields: [sorted[0].fields[0], ...counts] }];
}
