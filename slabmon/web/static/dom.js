// SPDX-License-Identifier: Apache-2.0
// Creates and updates elements. Text stays text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

export const $ = id => document.getElementById(id);

export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

export function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Sets an element's text if it differs, so that selection, focus and tooltips survive updates.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, { hourCycle: "h23" });
}

export function minute(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, { hourCycle: "h23", hour: "2-digit", minute: "2-digit" });
}

// Formats a time, with its date unless that is today.
export function day(seconds) {
  const time = new Date(seconds * 1000);
  const today = time.toDateString() === new Date().toDateString();
  return today ? clock(seconds) : `${time.toLocaleDateString()} ${clock(seconds)}`;
}
