// The reference: groups of operations, the codes of all refusals, a filter, and addresses such as #redeemCoupon.

import { fill, h, plural } from "/console/assets/dom.js";
import { offerThemes } from "/console/assets/themes.js";
import { api, listOperations, listRefusals, load, problems } from "./document.js";
import { show } from "./operation.js";
import { inline, later, prose, status } from "./parts.js";

const by = (id) => document.getElementById(id);
const REFUSALS = "Refusals";

function group(name, description, ...children) {
  return h("section", { class: "group", id: name, tabindex: -1 }, h("h2", {}, name), h("p", { class: "soft" }, inline(description)), children);
}

function entry({ code, status: number, for: turn, title, remedy, operations }) {
  return h("li", { id: code, tabindex: -1 },
    h("p", {}, status(number), " ", h("code", {}, code), " ", h("span", { class: "badge" }, turn), " ", inline(`${title} ${remedy}`)),
    operations.length > 0 && later({}, `Answer of ${plural(operations.length, "operation")}`, () => h("ul", { class: "plain" },
      operations.map((one) => h("li", {}, h("a", { href: `#${one.id}` }, one.summary), " ", h("code", {}, `${one.method} ${one.path}`))))));
}

function refusals(operations) {
  const all = new Map(problems.map((one) => [one.code, { ...one, operations: [] }]));
  for (const operation of operations) {
    for (const { code } of listRefusals(operation)) all.get(code).operations.push(operation);
  }
  return group(REFUSALS, "A program compares `code`, which never changes. A refused request has changed nothing; only after `internal` and `outcome_unknown` it may have. Beside it stands its `for`: whether the `shopper` is told why, the `caller` has to change something, or a `retry` may succeed.",
    h("ul", { class: "plain codes card", id: "codes" }, [...all.values()].map(entry)));
}

function authentication() {
  return group("Authentication", "Each request has the header `Authorization: Bearer` with one of these:",
    Object.values(api.components.securitySchemes).map((scheme) => prose(scheme.description)));
}

// Open and show what the address names.
function follow() {
  const id = decodeURIComponent(location.hash.slice(1));
  const place = id && (by(id) ?? document.querySelector(`[data-also~="${CSS.escape(id)}"]`));
  if (!place) return;
  filter("");
  by("search").value = "";
  const operation = place.matches("details");
  if (operation) place.open = true;
  place.scrollIntoView();
  (operation ? place.firstElementChild : place).focus({ preventScroll: true });
}

// Show the refusals and the operations that have all words: operations in their own words if there are any, else, or if
// it is to be `anywhere`, in a parameter, field, header, refusal or the description, too.
function filter(text, anywhere = false) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const ranks = new Map([...document.querySelectorAll(".operation")].map((row) => [row, row.rank(words)]));
  const count = (least) => [...ranks.values()].filter((rank) => rank >= least).length;
  const least = anywhere || count(2) === 0 ? 1 : 2;
  for (const [row, rank] of ranks) row.hidden = rank < least;
  const codes = [...by("codes").children];
  for (const one of codes) one.hidden = !words.every((word) => one.firstElementChild.textContent.toLowerCase().includes(word));
  for (const section of document.querySelectorAll(".group")) {
    section.hidden = words.length > 0 && !section.querySelector(".operation:not([hidden]), #codes > :not([hidden])");
  }
  const refused = codes.filter((one) => !one.hidden).length;
  const others = count(1) - count(least);
  fill(by("count"), words.length > 0 && [
    `${plural(count(least), "operation")}${refused > 0 ? ` and ${plural(refused, "refusal")}` : ""} found. `,
    others > 0 && [`${others} more with it in a field, header, refusal or text. `, h("button", { type: "button", onclick: () => filter(text, true) }, "Show them")],
  ]);
}

function listen() {
  const menu = by("menu");
  const toggle = (open) => menu.setAttribute("aria-expanded", by("nav").classList.toggle("open", open));
  menu.addEventListener("click", () => toggle());
  by("nav").addEventListener("click", () => toggle(false));
  by("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    document.querySelector(".operation:not([hidden]) > summary, #codes > :not([hidden])")?.focus();
  });
  by("search").addEventListener("input", (event) => filter(event.target.value));
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    by("search").focus();
  });
  // The address follows what is opened, so that it can be copied.
  by("main").addEventListener("toggle", ({ target }) => {
    if (target.matches(".operation") && target.open) history.replaceState(null, "", `#${target.id}`);
  }, true);
  addEventListener("hashchange", follow);
}

function render() {
  const operations = listOperations();
  const groups = api.tags.map(({ name, description }) =>
    group(name, description, h("div", { class: "operations" }, operations.filter((one) => one.tags.includes(name)).map(show))));
  fill(by("main"),
    h("header", {}, h("h1", {}, "API reference"), prose(api.info.description), h("p", { id: "count", class: "soft", role: "status" })),
    authentication(), groups, refusals(operations));
  fill(by("nav"), ["Authentication", ...api.tags.map((tag) => tag.name), REFUSALS].map((name) => h("a", { href: `#${name}` }, name)));
}

offerThemes(by("theme"));
try {
  await load();
  render();
  listen();
  follow();
} catch (error) {
  fill(by("loading"), `The reference could not be loaded: ${error.message} Reload the page.`);
}
