// SPDX-License-Identifier: Apache-2.0
// The controls for past moments, shown if slabmon keeps history.

import { $ } from "./dom.js";

const STEP = 60, TYPING = 600;

// Formats Unix seconds for an input of type datetime-local.
function local(seconds) {
  const time = new Date(seconds * 1000);
  return new Date(time - time.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

export class Times {
  #go; #span = null; #at = null; #shown = 0; #typing = 0;

  // go(seconds) shows a past moment, null: the present
  constructor(go) {
    this.#go = go;
    $("earlier").addEventListener("click", () => this.step(-1));
    $("onward").addEventListener("click", () => this.step(1));
    $("now").addEventListener("click", () => go(null));
    // A date changes part by part while it is typed: wait for the last part.
    $("at").addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#typed(), TYPING);
    });
    $("at").addEventListener("keydown", event => {
      if (event.key === "Enter") this.#typed();
    });
  }

  #typed() {
    clearTimeout(this.#typing);
    const seconds = new Date($("at").value).getTime() / 1000;
    if (Number.isFinite(seconds)) this.#to(seconds);
  }

  // Goes to the nearest moment of the history; after its end is the present.
  #to(seconds) {
    if (this.#span) this.#go(seconds > this.#span[1] ? null : Math.max(seconds, this.#span[0]));
  }

  // span: Unix seconds of the history's first and last moment, or null; at: the moment requested,
  // null: the present; shown: the moment of the table
  show(span, at, shown) {
    [this.#span, this.#at, this.#shown] = [span, at, shown];
    $("times").hidden = !span;
    if (!span) return;
    $("at").min = local(span[0]);
    $("at").max = local(Math.max(span[1], shown));
    if (document.activeElement !== $("at")) $("at").value = local(shown);
    $("earlier").disabled = shown <= span[0];
    $("onward").disabled = $("now").disabled = at === null;
  }

  step(count) {
    if (this.#span && (count < 0 || this.#at !== null)) this.#to((this.#at ?? this.#shown) + count * STEP);
  }

  focus() {
    $("at").focus();
  }
}
