// One operation: a row of the list, and what is shown when it is opened.

import { h } from "/console/assets/dom.js";
import { findExample, listObjects, listRefusals, resolve } from "./document.js";
import { fields, inline, later, method, parameters, prose, sample, status } from "./parts.js";
import { trying } from "./trying.js";

function part(title, ...children) {
  return h("section", {}, h("h4", {}, title), children);
}

function schemaFields({ schema } = {}) {
  return schema ? listObjects(resolve(schema)).map(([tag, object]) => [tag && h("p", {}, h("code", {}, tag)), fields(object)]) : [];
}

function listParameters(operation, place, title) {
  const those = (operation.parameters ?? []).filter((one) => one.in === place).map((one) => [one.name, one]);
  return those.length > 0 && part(title, parameters(those));
}

function request(operation) {
  return [
    listParameters(operation, "path", "In the address"),
    listParameters(operation, "query", "Query"),
    Object.entries(operation.requestBody?.content ?? {}).map(([media, content]) =>
      part(media === "application/json" ? "Body" : `Body as ${media}`, prose(resolve(content.schema ?? {}).description), schemaFields(content))),
    listParameters(operation, "header", "Headers"),
  ];
}

function success(code, response) {
  const [[media, content] = []] = Object.entries(response.content ?? {});
  const headers = Object.entries(response.headers ?? {});
  const shown = content ? schemaFields(content) : [];
  return h("li", {},
    h("p", {}, status(code), " ", inline(response.description)),
    !content && h("p", { class: "soft" }, "Without a body."),
    content && media !== "application/json" && h("p", {}, "As ", h("code", {}, media)),
    shown.length > 0 && later({}, "Fields of the answer", () => shown),
    headers.length > 0 && later({}, "Headers of the answer", () => parameters(headers)));
}

// The codes of refusals; each leads to its entry at the end of the page.
function refusals(operation) {
  const all = listRefusals(operation);
  return all.length > 0 && later({}, `${all.length} refusals`, () => h("ul", { class: "plain codes" }, all.map((one) =>
    h("li", {}, status(one.status), " ", h("a", { class: "code", href: `#${one.code}` }, one.code), " ", inline(one.sentence)))));
}

function content(operation) {
  const good = Object.entries(operation.responses).filter(([code]) => code < "400");
  const example = findExample(Object.values(good[0]?.[1].content ?? {})[0]);
  const [command, form] = trying(operation);
  return h("div", { class: "halves content" },
    h("div", { class: "about" },
      prose(operation.description),
      request(operation),
      h("section", { class: "responses" }, h("h4", {}, "Answers"), h("ul", { class: "plain" }, good.map(([code, one]) => success(code, one))), refusals(operation))),
    h("div", { class: "samples" },
      command,
      example !== null && sample("An answer", typeof example === "string" ? example : JSON.stringify(example, null, 2)),
      later({ class: "try" }, "Try it", () => form)));
}

export function show(operation) {
  const made = later({ class: "operation", id: operation.id }, [
    method(operation.method),
    h("h3", {}, operation.summary),
    h("code", {}, operation.path),
  ], () => content(operation));
  made.dataset.text = [operation.method, operation.path, operation.summary, operation.id].join(" ").toLowerCase();
  return made;
}
