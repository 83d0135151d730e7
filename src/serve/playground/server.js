// What the page says to the server, and what a refusal means to a person. It knows no picture and no table.

let key = "";

/// The key is held here and nowhere else: it is gone with the page.
export function useKey(text) {
  key = text.trim();
}

export function hasKey() {
  return key !== "";
}

/// An answer that is not the one asked for. `seconds`: when to ask again; null when that is of no use.
export class Refusal extends Error {
  constructor(status, message, seconds = null) {
    super(message);
    this.status = status;
    this.seconds = seconds;
  }
}

/// The JSON that `path` answers, to a GET without a body and to a POST with one. Throws a Refusal.
export async function ask(path, body) {
  const headers = { accept: "application/json" };
  if (hasKey()) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response, text;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(30_000),
    });
    text = await response.text();
  } catch {
    throw new Refusal(0, "The server cannot be reached. Trying again …", 1);
  }
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // A proxy's page, perhaps: the status tells enough.
  }
  if (response.ok && answer !== null) return answer;
  throw refusal(response, answer?.error ?? answer?.message);
}

function refusal(response, reason) {
  const { status } = response;
  const seconds = Math.min(Number(response.headers.get("retry-after")) || 1, 30);
  switch (status) {
    case 401:
    case 403:
      return new Refusal(status, hasKey() ? "This key opens nothing here" : "This server asks for a key");
    case 429:
      return new Refusal(status, "The server is busy. Trying again …", seconds);
    case 502:
    case 503:
    case 504:
      return new Refusal(status, `Not ready: ${reason ?? "nothing answers"}. Trying again …`, seconds);
    default:
      return new Refusal(status, `The server answered ${status}: ${reason ?? response.statusText}`);
  }
}

/// A way that takes one input at a time: of those that come meanwhile, the newest goes next, and the others never.
export function lane(send) {
  let next = null;
  let busy = false;
  return async (input) => {
    next = { input };
    if (busy) return;
    busy = true;
    try {
      while (next) {
        const { input } = next;
        next = null;
        await send(input);
      }
    } finally {
      busy = false;
    }
  };
}

export function pause(seconds) {
  return new Promise((resume) => setTimeout(resume, seconds * 1000));
}
