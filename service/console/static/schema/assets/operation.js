// One operation: a row of the list, and what is shown when it is opened.

import { fill, h } from "/console/assets/dom.js";
import { findExample, listObjects, listRefusals, listTerms, resolve } from "./document.js";
import { fields, inline, later, method, parameters, prose, sample, status } from "./parts.js";
import { trying } from "./trying.js";

const FEW = 3; // so many places of what is searched are shown

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
  const [code, form] = trying(operation);
  return h("div", { class: "halves content" },
    h("div", { class: "about" },
      prose(operation.description),
      operation.also.length > 0 && h("p", {}, "Also at ", operation.also.map((one) => h("code", {}, `${one.method} ${one.path}`)), "."),
      request(operation),
      h("section", { class: "responses" }, h("h4", {}, "Answers"), h("ul", { class: "plain" }, good.map(([code, one]) => success(code, one))), refusals(operation))),
    h("div", { class: "samples" },
      code,
      example !== null && sample("An answer", typeof example === "string" ? example : JSON.stringify(example, null, 2)),
      later({ class: "try" }, "Try it", () => form)));
}

export function show(operation) {
  const made = later({ class: "operation", id: operation.id }, [
    method(operation.method),
    h("h3", {}, operation.summary),
    h("code", {}, operation.path),
  ], () => content(operation));
  const ids = operation.also.map(({ id }) => id);
  made.dataset.also = ids.join(" ");
  made.dataset.text = [operation.method, operation.path, operation.summary, operation.id, ...ids].join(" ").toLowerCase();
  const where = made.firstElementChild.appendChild(h("span", { class: "where soft", hidden: true }));
  let terms = null; // made at the first search that needs them

  // 2 if all words are in its own, 1 if they are in it anywhere, 0 otherwise. Shows where those are that are not its own.
  made.rank = (words) => {
    const others = words.filter((word) => !made.dataset.text.includes(word));
    where.hidden = others.length === 0;
    if (where.hidden) return 2;
    terms ??= listTerms(operation);
    const places = others.map((word) => terms.filter(([, name]) => name.toLowerCase().includes(word)));
    fill(where, places.flat().slice(0, FEW).map(([kind, name], place) => [place > 0 && ", ", `${kind} `, h("code", {}, name)]));
    const text = operation.description.toLowerCase();
    return others.every((word, place) => places[place].length > 0 || text.includes(word)) ? 1 : 0;
  };
  return made;
}
