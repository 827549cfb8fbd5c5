// The form that sends an operation's request from this page, and the same request as code.

import { field, fill, h, input, select } from "/console/assets/dom.js";
import { findExample } from "./document.js";
import { sample, status } from "./parts.js";
import { LANGUAGES, address, guess, write } from "./samples.js";

const TIMEOUT_MS = 30_000;
const MOST = 100_000; // characters of an answer that are shown
let key = ""; // never stored, and never in a sample
let language = "curl"; // of all samples
const changes = new EventTarget(); // "language"

const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// The request as its form has it. Without `strict`, examples stand for what is not filled in.
function read(operation, controls, strict) {
  const example = guess(operation);
  const request = { operation, values: {}, query: {}, headers: {}, body: controls.body?.value || null, type: controls.type?.value ?? null };
  const places = { path: request.values, query: request.query, header: request.headers };
  for (const [{ in: place, name, required }, control] of controls.parameters) {
    const value = control.value.trim() || (required && !strict ? example(name) : "");
    if (value || place === "path") places[place][name] = value;
  }
  return request;
}

async function send(request) {
  const headers = { ...request.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (request.body !== null) headers["Content-Type"] = request.type;
  const began = performance.now();
  const response = await fetch(address(request), {
    method: request.operation.method, headers, body: request.body ?? undefined, credentials: "omit", cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
  const took = `${Math.round(performance.now() - began)} ms`;
  return { status: response.status, took, text: isJson ? pretty(JSON.parse(text)) : text || "(no body)" };
}

// The controls of a request: its parameters, and its body with the media type. A file with codes goes before JSON.
export function makeControls(operation) {
  const content = operation.requestBody?.content;
  const media = Object.keys(content ?? {}).sort((one, other) => (other === "text/csv") - (one === "text/csv"));
  const body = content && h("textarea", { spellcheck: "false" });
  const type = content && select(media.map((name) => [name, name]), media[0]);
  const prefill = () => { body.value = pretty(findExample(content[type.value]) ?? ""); };
  if (content) prefill();
  type?.addEventListener("change", prefill);
  const parameters = (operation.parameters ?? []).map((one) =>
    [one, input({ required: one.in === "path", maxlength: 1000, autocapitalize: "none", spellcheck: "false", placeholder: one.schema.examples?.[0] ?? null })]);
  return { parameters, body, type, media };
}

// The request as code, in the language that was chosen last: the sample, and what writes it anew.
function showCode(operation, controls) {
  const chosen = h("div", { class: "row", role: "group", "aria-label": "Language" }, Object.keys(LANGUAGES).map((name) => h("button", {
    type: "button", class: "quiet", value: name, onclick: () => { language = name; changes.dispatchEvent(new Event("language")); },
  }, name)));
  const code = sample("The request", "", chosen);
  const describe = () => {
    code.set(write(language, read(operation, controls, false)));
    for (const one of chosen.children) one.setAttribute("aria-pressed", one.value === language);
  };
  changes.addEventListener("language", describe);
  describe();
  return [code, describe];
}

// The request as code, and a form: [sample, form].
export function trying(operation) {
  const controls = makeControls(operation);
  const { parameters, body, type, media } = controls;
  const secret = input({ type: "password", name: "key", value: key, oninput: () => { key = secret.value.trim(); }, onfocus: () => { secret.value = key; } });
  const [code, describe] = showCode(operation, controls);
  const place = h("div", { class: "answer", role: "status" });
  const go = h("button", { class: "primary" }, "Send");
  const fieldsOf = (...places) => parameters.filter(([one]) => places.includes(one.in)).map(([one, control]) =>
    field(one.name, control, one.in === "header" ? "Header, optional" : one.required ? null : "Optional"));
  const form = h("form", { class: "trying" },
    operation.security?.length !== 0 && field("API key or user token", secret, "Kept in this tab until you close it. With make run: demo_admin."),
    fieldsOf("path", "query"),
    media.length > 1 && field("Media type", type),
    body && field("Body", body),
    fieldsOf("header"),
    h("div", {}, go), place);
  form.addEventListener("input", describe);
  form.addEventListener("change", describe);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (go.disabled) return;
    go.disabled = true;
    fill(place, h("p", { class: "soft" }, "Sending …"));
    try {
      const answer = await send(read(operation, controls, true));
      const cut = answer.text.length > MOST ? `${answer.text.slice(0, MOST)}\n… (cut)` : answer.text;
      fill(place, h("p", {}, status(answer.status), ` in ${answer.took}`), sample("The answer", cut));
    } catch (error) {
      fill(place, h("p", { class: "error" }, error.name === "TimeoutError"
        ? "No answer within 30 s. A change may have been made: send it again with the same Idempotency-Key or order."
        : "The request could not be sent, or its answer was lost. Check the path, the headers and that the service runs, then send it again."));
    } finally {
      go.disabled = false;
    }
  });
  return [code, form];
}
