// SPDX-License-Identifier: Apache-2.0
// One component for each kind of panel in known.json, all drawn by @grafana/ui.
import { getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue, TimeSeries, useTheme2, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

function Graph({ panel, frames, range, timeZone, width, height }) {
  return (
    <TimeSeries
      frames={frames}
      structureRev={1}
      timeRange={range}
      timeZone={timeZone}
      width={width}
      height={height}
      legend={panel.options.legend}
      options={panel.options}
    />
  );
}

function Stat(props) {
  const theme = useTheme2();
  const { options } = props.panel;
  return (
    <Repeated {...props} autoGrid sparkline={options.graphMode !== 'none'}>
      {({ value, width, height, count, alignmentFactors }) => (
        <BigValue
          value={value.display}
          sparkline={value.sparkline}
          count={count}
          width={width}
          height={height}
          alignmentFactors={alignmentFactors}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          text={options.text}
          percentChangeColorMode={options.percentChangeColorMode}
          disableWideLayout={!options.wideLayout}
          theme={theme}
        />
      )}
    </Repeated>
  );
}

function Bars(props) {
  const theme = useTheme2();
  const { options } = props.panel;
  return (
    <Repeated {...props} itemSpacing={8}>
      {({ value, width, height, orientation, alignmentFactors, count }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex)}
          width={width}
          height={height}
          orientation={orientation}
          alignmentFactors={alignmentFactors}
          text={options.text}
          displayMode={options.displayMode}
          showUnfilled={options.showUnfilled}
          valueDisplayMode={options.valueMode}
          namePlacement={options.namePlacement}
          isOverflow={count * (options.minVizHeight + 8) > props.height}
          itemSpacing={8}
          lcdCellWidth={12}
          theme={theme}
        />
      )}
    </Repeated>
  );
}

// A value of each series, side by side or below each other.
function Repeated({ children, panel, frames, config, replace, timeZone, width, height, sparkline, ...rest }) {
  const theme = useTheme2();
  const { options } = panel;
  const values = () =>
    getFieldDisplayValues({
      fieldConfig: config, reduceOptions: { values: false, ...options.reduceOptions },
      replaceVariables: replace, data: frames, sparkline, theme, timeZone,
    });
  return (
    <VizRepeater
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={children}
      width={width}
      height={height}
      source={frames}
      renderCounter={1}
      orientation={options.orientation}
      minVizWidth={options.minVizWidth}
      minVizHeight={options.minVizHeight}
      maxVizHeight={options.maxVizHeight}
      {...rest}
    />
  );
}

function Rows({ panel, frames, config, range, width, height }) {
  const { options } = panel;
  return (
    <TableNG
      data={frames[options.frameIndex]}
      width={width}
      height={height}
      noHeader={!options.showHeader}
      showTypeIcons={options.showTypeIcons}
      initialSortBy={options.sortBy}
      cellHeight={options.cellHeight}
      fieldConfig={config}
      timeRange={range}
      enableVirtualization={false}
    />
  );
}

export const KINDS = { timeseries: Graph, stat: Stat, bargauge: Bars, table: Rows };
