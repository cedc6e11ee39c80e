// SPDX-License-Identifier: Apache-2.0
// Requests to the server. Refused: the query is invalid, or (lost) there is no such moment. Gone: no
// answer, or a server error.

export class Refused extends Error {
  constructor(text, lost) {
    super(text);
    this.lost = lost;
  }
}
export class Gone extends Error {}

const PATIENCE = 8000;
// Past moments take longer.
const LONG_PATIENCE = 30000;

export function url(path, asked = {}) {
  return `api/v1/${path}?${new URLSearchParams(asked)}`;
}

export async function get(path, asked) {
  let answer, text;
  try {
    answer = await fetch(url(path, asked), { signal: AbortSignal.timeout(asked?.at ? LONG_PATIENCE : PATIENCE) });
    text = await answer.text();
  } catch {
    throw new Gone("slabmon does not answer");
  }
  if ([400, 404, 410].includes(answer.status)) {
    throw new Refused(text.trim().replace(/^\d+ /, ""), answer.status !== 400);
  }
  if (!answer.ok) throw new Gone(`slabmon answers ${text.trim() || answer.status}`);
  return JSON.parse(text);
}
