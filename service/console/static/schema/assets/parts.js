// Texts, badges and lists of fields.

import { h } from "/console/assets/dom.js";
import { listBounds, listObjects, nameType, resolve } from "./document.js";

const FEW = 8; // so many values of an enumeration are shown at once

// A text with `code` and paragraphs, as elements.
export function prose(text) {
  return (text ?? "").split(/\n\s*\n/).filter(Boolean).map((paragraph) => h("p", {}, inline(paragraph)));
}

export function inline(text) {
  return (text ?? "").split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));
}

const COLOURS = { GET: "info", POST: "good", PATCH: "warn", DELETE: "bad" };

export const method = (name) => h("span", { class: `badge method ${COLOURS[name] ?? ""}` }, name);
export const status = (code) => h("span", { class: `badge ${code < 400 ? "good" : code < 500 ? "warn" : "bad"}` }, code);

// Details whose content is made when they are first opened.
export function later(attributes, summary, make) {
  const made = h("details", attributes, h("summary", {}, summary));
  made.addEventListener("toggle", () => made.childElementCount === 1 && made.append(...[make()].flat(9).filter(Boolean)));
  return made;
}

function values(all) {
  const list = all.map((value) => [h("code", {}, JSON.stringify(value)), " "]);
  return all.length <= FEW ? h("p", {}, "One of: ", list) : later({}, `One of ${all.length} values`, () => h("p", {}, list));
}

// A field: name, type, bounds, what it means, and its own fields.
function field(name, schema, required) {
  const known = resolve(schema);
  const kind = known.enum ? listBounds(known).join(", ") : [nameType(known), ...listBounds(known)].join(", ");
  const example = known.examples?.[0];
  return [
    h("dt", {}, h("code", {}, name), " ", required && h("span", { class: "required" }, "required"), " ", h("span", { class: "soft" }, kind)),
    h("dd", {},
      prose(known.description),
      known.enum && values(known.enum),
      example !== undefined && h("p", { class: "hint" }, "Such as ", h("code", {}, JSON.stringify(example))),
      listObjects(known).map(([tag, object]) =>
        later({}, [`Fields of ${name}`, tag && [" of type ", h("code", {}, tag)]].flat(), () => fields(object)))),
  ];
}

// The fields of an object, required ones first.
export function fields(schema) {
  const required = new Set(schema.required);
  const names = Object.keys(schema.properties ?? {}).sort((one, other) => required.has(other) - required.has(one));
  const rows = names.map((name) => field(name, schema.properties[name], required.has(name)));
  return rows.length > 0 ? h("dl", { class: "fields" }, rows) : h("p", { class: "soft" }, "It has no fields.");
}

// Parameters of a request, or headers of an answer: [name, { description, schema, required }].
export function parameters(entries) {
  return h("dl", { class: "fields" }, entries.map(([name, { description, schema, required }]) =>
    field(name, { ...schema, description: description ?? schema.description }, required)));
}

// A scrolling text with a button that copies it, and more in its head. `set` replaces the text.
export function sample(label, text, ...more) {
  const shown = h("pre", { tabindex: 0, role: "region", "aria-label": label }, text);
  const copy = h("button", { type: "button", class: "quiet", "aria-label": `Copy: ${label}` }, "Copy");
  copy.addEventListener("click", () => navigator.clipboard.writeText(shown.textContent).then(
    () => { copy.textContent = "Copied"; }, () => getSelection().selectAllChildren(shown)));
  const made = h("div", { class: "sample" }, h("div", { class: "row spread" }, h("span", { class: "soft" }, label), more, copy), shown);
  return Object.assign(made, { set: (other) => { shown.textContent = other; } });
}
