// The form that sends an operation's request from this page, and the curl command of the same request.

import { field, fill, h, input, select } from "/console/assets/dom.js";
import { curl } from "/checkout/assets/curl.js";
import { findExample } from "./document.js";
import { sample, status } from "./parts.js";

const TIMEOUT_MS = 30_000;
const MOST = 100_000; // characters of an answer that are shown
let key = ""; // never stored, and never in a command

const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

// Examples of path parameters, from the operation's answer or body.
function guess(operation) {
  const success = Object.entries(operation.responses).find(([code]) => code < "300")?.[1];
  const bodies = [success?.content, operation.requestBody?.content].map((content) => findExample(content?.["application/json"]) ?? {});
  const all = Object.assign({}, ...bodies.reverse(), ...bodies.map((body) => body.items?.[0] ?? {}));
  return (name) => (typeof all[name] === "string" ? all[name] : `<${name}>`);
}

// The request as its form has it. Without `strict`, examples stand for what is not filled in.
function read(operation, controls, strict) {
  const example = guess(operation);
  const query = new URLSearchParams();
  const headers = {};
  let { path } = operation;
  for (const [parameter, control] of controls.parameters) {
    const value = control.value.trim();
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, strict || value ? encodeURIComponent(value) : example(parameter.name));
    else if (value && parameter.in === "query") query.set(parameter.name, value);
    else if (value) headers[parameter.name] = value;
  }
  if (query.size > 0) path += `?${query}`;
  return { method: operation.method, path, headers, body: controls.body?.value ?? null, type: controls.type?.value };
}

async function send(request) {
  const headers = { ...request.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (request.body !== null) headers["Content-Type"] = request.type;
  const began = performance.now();
  const response = await fetch(request.path, {
    method: request.method, headers, body: request.body ?? undefined, credentials: "omit", cache: "no-store",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
  const took = `${Math.round(performance.now() - began)} ms`;
  return { status: response.status, took, text: isJson ? pretty(JSON.parse(text)) : text || "(no body)" };
}

// A curl command and a form: [command, form].
export function trying(operation) {
  const media = Object.entries(operation.requestBody?.content ?? {});
  const body = media.length > 0 && h("textarea", { spellcheck: "false" });
  const type = media.length > 0 && select(media.map(([name]) => [name, name]), media[0][0]);
  const prefill = () => { body.value = pretty(findExample(operation.requestBody.content[type.value]) ?? ""); };
  if (body) prefill();
  const parameters = (operation.parameters ?? []).map((one) =>
    [one, input({ required: one.in === "path", maxlength: 1000, autocapitalize: "none", spellcheck: "false", placeholder: one.schema.examples?.[0] ?? null })]);
  const controls = { parameters, body: body || null, type: type || null };
  const secret = input({ type: "password", name: "key", value: key, oninput: () => { key = secret.value.trim(); }, onfocus: () => { secret.value = key; } });

  const command = sample("The request as a command", "");
  const describe = () => command.set(curl({ ...read(operation, controls, false), key: operation.security?.length === 0 ? null : "$SCRIP_KEY" }));
  describe();

  const place = h("div", { class: "answer", role: "status" });
  const go = h("button", { class: "primary" }, "Send");
  const fieldsOf = (...places) => parameters.filter(([one]) => places.includes(one.in)).map(([one, control]) =>
    field(one.name, control, one.in === "header" ? "Header, optional" : one.required ? null : "Optional"));
  const form = h("form", { class: "trying" },
    operation.security?.length !== 0 && field("API key or user token", secret, "Kept in this tab until you close it. With make run: demo_admin."),
    fieldsOf("path", "query"),
    type && media.length > 1 && field("Media type", type),
    body && field("Body", body),
    fieldsOf("header"),
    h("div", {}, go), place);
  type && type.addEventListener("change", prefill);
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
        : "The request could not be sent, or its answer was lost. Check the headers and that the service runs, then send it again."));
    } finally {
      go.disabled = false;
    }
  });
  return [command, form];
}
