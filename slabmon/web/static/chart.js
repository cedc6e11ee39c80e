// SPDX-License-Identifier: Apache-2.0
// A chart of up to an hour: lines, an error band around the first, values at the pointer.

import { clock, draw, make, minute, say } from "./dom.js";

const HEIGHT = 170, LEFT = 70, RIGHT = 12, TOP = 10, BOTTOM = 22;
const MINUTES = [1, 2, 5, 10, 15];
const SHORTEST = 300;

export class Chart {
  #figure; #svg; #legend; #readout; #cursor; #data; #at = -1; #x; #width = 0;

  // pick(seconds) shows another moment
  constructor(figure, pick) {
    this.#figure = figure;
    this.#legend = make("span", { className: "legend" });
    this.#readout = make("output");
    this.#svg = draw("svg", { tabindex: 0, role: "img" });
    figure.append(make("figcaption", {}, this.#legend, this.#readout), this.#svg);
    this.#svg.addEventListener("pointermove", event => {
      const seconds = this.#x?.back(event.offsetX);
      this.#point(this.#data.times.reduce((best, time, i, times) =>
        Math.abs(time - seconds) < Math.abs(times[best] - seconds) ? i : best, 0));
    });
    for (const name of ["pointerleave", "blur"]) this.#svg.addEventListener(name, () => this.#point(-1));
    const choose = () => { if (this.#data?.pickable && this.#at >= 0) pick(this.#data.times[this.#at]); };
    this.#svg.addEventListener("click", choose);
    this.#svg.addEventListener("keydown", event => {
      if (event.key === "Enter") choose();
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (!step) return;
      event.preventDefault();
      const last = this.#data.times.length - 1;
      this.#point(Math.min(last, Math.max(0, (this.#at < 0 ? this.#current : this.#at) + step)));
    });
    new ResizeObserver(() => {
      if (this.#svg.clientWidth && this.#svg.clientWidth !== this.#width && this.#data) this.#draw();
    }).observe(figure);
  }

  // times: Unix seconds; lines: [{heading, unit, help, values}] with null for gaps;
  // error: standard errors of the first line's values; moment: Unix time of the table, null for
  // the present; pickable: whether a click shows another moment
  show(data) {
    this.#figure.hidden = !data.lines.length || !data.times.length;
    if (this.#figure.hidden) return;
    this.#data = data;
    this.#svg.classList.toggle("pickable", data.pickable);
    this.#legend.replaceChildren(...data.lines.map((line, i) =>
      make("span", { className: `key line${i}`, title: line.help }, line.heading)));
    this.#draw();
  }

  #draw() {
    const { times, lines, error, moment } = this.#data;
    const width = this.#width = Math.max(240, this.#svg.clientWidth || 240);
    const last = times.at(-1), first = Math.min(times[0], last - SHORTEST);
    const tops = lines.flatMap((line, n) => line.values.map((value, i) => (value ?? 0) + (n ? 0 : error?.[i] ?? 0)));
    const step = nice(Math.max(...tops, 0) / 3, lines[0].unit);
    const top = step * Math.max(1, Math.ceil(Math.max(...tops, 0) / step - 1e-9));
    const x = seconds => LEFT + (seconds - first) * (width - LEFT - RIGHT) / (last - first);
    x.back = pixels => first + (pixels - LEFT) * (last - first) / (width - LEFT - RIGHT);
    const y = value => HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM) / top;
    this.#x = x;
    const parts = [];
    for (let value = 0; value <= top * 1.001; value += step) {
      parts.push(draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        draw("text", { class: "y", x: LEFT - 8, y: y(value) + 4 }, amount(value, lines[0].unit)));
    }
    const every = MINUTES.find(minutes => (last - first) / 60 / minutes <= width / 90) ?? 15;
    // The present is labelled in minutes ago, the past in clock time.
    const from = moment === null ? last : Math.floor(last / 60 / every) * 60 * every;
    for (let minutes = 0; from - minutes * 60 >= first - 1; minutes += every) {
      const at = from - minutes * 60;
      const ago = minutes ? `−${minutes} min` : "now";
      parts.push(draw("text", { class: "x", x: x(at), y: HEIGHT - 6 }, moment === null ? ago : minute(at)));
    }
    if (moment !== null) parts.push(draw("line", { class: "moment", x1: x(moment), x2: x(moment), y1: TOP, y2: HEIGHT - BOTTOM }));
    if (error?.some(value => value)) parts.push(draw("path", { class: "band", d: band(times, lines[0].values, error, x, y) }));
    lines.forEach((line, i) => parts.push(draw("path", { class: `line line${i}`, d: path(times, line.values, x, y) })));
    this.#cursor = draw("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.#svg.replaceChildren(...parts, this.#cursor);
    this.#point(this.#at < times.length ? this.#at : -1);
  }

  // The index of the moment that the table shows.
  get #current() {
    const { times, moment } = this.#data;
    return moment === null ? times.length - 1 : Math.max(0, times.findLastIndex(time => time <= moment + 0.5));
  }

  // Shows the values at one point; -1: at the current moment.
  #point(at) {
    this.#at = at;
    const { times, lines, error, moment } = this.#data;
    const i = at < 0 ? this.#current : at;
    const values = lines.map((line, n) => {
      if (line.values[i] === null) return "unknown";
      const uncertainty = n === 0 && error?.[i] ? ` ± ${amount(error[i], line.unit)}` : "";
      return amount(line.values[i], line.unit) + uncertainty;
    });
    const text = `${at < 0 && moment === null ? "now" : clock(times[i])}: ${values.join(" · ")}`;
    say(this.#readout, text);
    this.#svg.setAttribute("aria-label", `${lines.map(line => line.heading).join(", ")}; ${text}; arrow keys move through time`);
    const x = this.#x(times[i]);
    this.#cursor.setAttribute("x1", x);
    this.#cursor.setAttribute("x2", x);
    this.#cursor.setAttribute("visibility", at < 0 ? "hidden" : "visible");
  }
}

// Returns the longest interval between points that are connected: after a longer one nothing was
// read for a while.
function longest(times) {
  const steps = times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
  return 3 * (steps[(steps.length - 1) >> 1] ?? 0);
}

function path(times, values, x, y) {
  let pen = "M";
  const most = longest(times);
  return values.map((value, i) => {
    if (value === null) {
      pen = "M";
      return "";
    }
    if (i && times[i] - times[i - 1] > most) pen = "M";
    // A single point is drawn as a short line.
    const mark = `${pen}${x(times[i]).toFixed(1)},${y(value).toFixed(1)}${pen === "M" ? "h.1" : ""}`;
    pen = "L";
    return mark;
  }).join("");
}

function band(times, values, error, x, y) {
  let d = "";
  const most = longest(times);
  for (let i = 1; i < times.length; i++) {
    if (values[i] === null || values[i - 1] === null || times[i] - times[i - 1] > most) continue;
    const at = (n, sign) => `${x(times[n]).toFixed(1)},${y(Math.max(0, values[n] + sign * (error[n] ?? 0))).toFixed(1)}`;
    d += `M${at(i - 1, 1)}L${at(i, 1)}L${at(i, -1)}L${at(i - 1, -1)}Z`;
  }
  return d;
}

// Returns the least of 1, 2, 5 times a power of ten (of a binary unit) that is not below a value.
function nice(value, unit) {
  if (!(value > 0)) return 1;
  const scale = unit === "bytes" ? 1024 ** Math.max(0, Math.floor(Math.log(value) / Math.log(1024))) : 1;
  const power = 10 ** Math.floor(Math.log10(value / scale));
  return scale * power * [1, 2, 5, 10].find(factor => factor * power * scale >= value * 0.999);
}

export function amount(value, unit) {
  if (unit !== "bytes") return `${value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 })}/s`;
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(names.length - 1, value < 1 ? 0 : Math.floor(Math.log(value) / Math.log(1024)));
  const shown = value / 1024 ** power;
  return `${shown.toLocaleString("en", { maximumFractionDigits: power ? 1 : 0 })} ${names[power]}`;
}
