// Requests to the server that this page comes from.

let credentials = null; // the value of the header, in memory only

/** Why a request has no result: a sentence, the server's name for it, the status, and seconds to wait. */
export class Failure extends Error {
  constructor(message, type, status = 0, wait = 0) {
    super(message);
    Object.assign(this, { type, status, wait });
  }
}

/** Take the user and secret of all requests from now on, or none. Returns whether there were any before. */
export function identify(user, secret) {
  const before = credentials !== null;
  const bytes = new TextEncoder().encode(`${user}:${secret}`);
  credentials = user === null ? null : `Basic ${btoa(String.fromCharCode(...bytes))}`;
  return before;
}

/** Send a form or JSON data. */
export async function ask(path, body, signal) {
  const form = body instanceof FormData;
  const headers = form ? {} : { "Content-Type": "application/json" };
  if (credentials) headers.Authorization = credentials;
  let reply;
  try {
    const content = form ? body : JSON.stringify(body);
    // Without `omit` the browser would ask for credentials itself, and keep them.
    reply = await fetch(path, { method: "POST", body: content, headers, signal, credentials: "omit" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure("The server cannot be reached.", "no_connection");
  }
  if (reply.ok) return reply;
  const { error } = await reply.json().catch(() => ({}));
  const message = error?.message ?? `the server answered ${reply.status}`;
  const wait = Number(reply.headers.get("Retry-After")) || 1;
  throw new Failure(sentence(message), error?.type ?? "refused", reply.status, wait);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;

/** What /v1/scan and /v1/explain want: a form with the file, or JSON with the address. */
export function request({ file, name }, options) {
  if (!file) return { urls: [name], ...options };
  const form = new FormData();
  for (const [key, value] of Object.entries(options)) form.append(key, value);
  form.append("files", file, name);
  return form;
}

/** Wait, unless the signal comes. */
export const pause = (seconds, signal) =>
  new Promise((done, failed) => {
    const timer = setTimeout(done, 1000 * seconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), failed(signal.reason)));
  });
