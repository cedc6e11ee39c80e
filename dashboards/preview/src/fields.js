// SPDX-License-Identifier: Apache-2.0
// Field configuration: what Grafana fills in where a dashboard says nothing, and @grafana/data's
// registries of options and transformations.
import {
  FieldConfigOptionsRegistry, identityOverrideProcessor, standardTransformers, standardTransformersRegistry,
} from '@grafana/data';
import known from './known.json';

// Grafana's defaults of each kind of panel: without thresholds, from 80 on all is red.
const THRESHOLDS = {
  mode: 'absolute',
  steps: [{ color: 'green', value: -Infinity }, { color: 'red', value: 80 }],
};
const BY_THRESHOLD = { color: { mode: 'thresholds' }, thresholds: THRESHOLDS, custom: {} };
const DEFAULTS = {
  timeseries: {
    color: { mode: 'palette-classic' },
    thresholds: THRESHOLDS,
    custom: {
      drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none',
      spanNulls: false, showPoints: 'auto', pointSize: 5, stacking: { mode: 'none', group: 'A' },
      axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text', scaleDistribution: { type: 'linear' },
      hideFrom: { tooltip: false, viz: false, legend: false }, thresholdsStyle: { mode: 'off' },
    },
  },
  stat: BY_THRESHOLD,
  bargauge: BY_THRESHOLD,
  table: { ...BY_THRESHOLD, custom: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false } },
};
const STANDARD = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'mappings', 'links', 'color', 'thresholds'];

standardTransformersRegistry.setInit(() =>
  Object.values(standardTransformers)
    .filter(({ id }) => known.transformations.includes(id))
    .map((transformation) => ({ id: transformation.id, name: transformation.name, transformation })),
);

function option(path, isCustom) {
  return {
    id: isCustom ? `custom.${path}` : path,
    path,
    name: path,
    isCustom,
    process: identityOverrideProcessor,
    shouldApply: () => true,
  };
}

/** Return a panel's field configuration with Grafana's defaults, and the registry to apply it by. */
export function fieldConfig(panel) {
  const own = panel.fieldConfig.defaults;
  const usual = DEFAULTS[panel.type];
  const defaults = { ...usual, ...own, custom: { ...usual.custom, ...own.custom } };
  if (defaults.custom.stacking) {
    defaults.custom.stacking = { ...usual.custom.stacking, ...defaults.custom.stacking };
  }
  // JSON has no infinity: the lowest step is null there.
  const steps = defaults.thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  defaults.thresholds = { ...defaults.thresholds, steps };
  const registry = new FieldConfigOptionsRegistry(() => [
    ...STANDARD.map((path) => option(path, false)),
    ...Object.keys(defaults.custom).map((path) => option(path, true)),
  ]);
  return { config: { ...panel.fieldConfig, defaults }, registry };
}
