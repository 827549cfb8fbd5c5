// Requests to the API in a session. The browser sends the cookie; changes carry the CSRF token.

const TIMEOUT_MS = 30_000;
let token = "";

export class Problem extends Error {
  // A detail that begins with the title goes on with what a program can do.
  constructor(status, { code, title, detail, errors }, retryAfterS = null) {
    super((title && detail.startsWith(title) ? title : detail) ?? "The server did not respond.");
    Object.assign(this, { status, code: code ?? "no_answer", errors, retryAfterS });
  }
}

export function useToken(csrfToken) {
  token = csrfToken;
}

// A fetch that calls `onSent` with the share of the body that was sent. fetch itself does not report it.
function fetchWatched(path, { method, headers, body, signal }, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.responseType = "blob";
    request.upload.addEventListener("progress", ({ loaded, total }) => onSent(loaded / total));
    request.addEventListener("load", () => resolve(new Response(request.response, {
      status: request.status,
      headers: request.getAllResponseHeaders().trim().split("\r\n").map((line) => line.split(": ")),
    })));
    for (const name of ["error", "abort"]) request.addEventListener(name, () => reject(new TypeError(name)));
    signal.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

// Returns the response; throws a Problem for a refusal. `type` is the media type of a text body.
export async function ask(method, path, { body, type, headers = {}, signal, timeoutMs = TIMEOUT_MS, onSent } = {}) {
  const sent = { Accept: "application/json", ...headers };
  if (method !== "GET") sent["X-CSRF-Token"] = token;
  if (body !== undefined) sent["Content-Type"] = type ?? "application/json";
  const signals = [AbortSignal.timeout(timeoutMs), signal].filter(Boolean);
  let response;
  try {
    const options = {
      method,
      headers: sent,
      body: body === undefined ? undefined : type ? body : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.any(signals),
    };
    response = await (onSent ? fetchWatched(path, options, onSent) : fetch(path, options));
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, {});
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    if (response.status === 401) dispatchEvent(new Event("signed-out"));
    const waiting = response.headers.get("Retry-After");
    throw new Problem(response.status, problem, waiting && Number(waiting));
  }
  return response;
}

async function json(method, path, options) {
  const response = await ask(method, path, options);
  return response.status === 204 ? null : response.json();
}

export const get = (path, options) => json("GET", path, options);
export const post = (path, body, options) => json("POST", path, { body, ...options });
export const patch = (path, body) => json("PATCH", path, { body });
export const remove = (path) => json("DELETE", path);

// A path with a query, without parameters that are null or "".
export function at(path, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value != null && value !== "");
  return set.length ? `${path}?${new URLSearchParams(set)}` : path;
}

export const named = (path, ...names) => names.reduce((text, name) => text.replace("*", encodeURIComponent(name)), path);
