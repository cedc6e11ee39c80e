// The server's answers. Refused: it does not understand the question. Gone: no answer, or no good one.

export class Refused extends Error {}
export class Gone extends Error {}

const PATIENCE = 8000;

export function url(path, asked = {}) {
  return `api/v1/${path}?${new URLSearchParams(asked)}`;
}

export async function get(path, asked) {
  let answer, text;
  try {
    answer = await fetch(url(path, asked), { signal: AbortSignal.timeout(PATIENCE) });
    text = await answer.text();
  } catch {
    throw new Gone("slabmon does not answer");
  }
  if (answer.status === 400) throw new Refused(text.trim());
  if (!answer.ok) throw new Gone(`slabmon answers ${text.trim() || answer.status}`);
  return JSON.parse(text);
}
