// The frame: signing in and out, routing, keys, theme. Each page is a module with
// `show(main, parameters, page)`; `page` has the session, and repeats tasks until the user leaves the page.

import { at, get, post, remove, useToken } from "./api.js";
import { ask, fill, h, tell, words } from "./dom.js";
import { Freshness } from "./freshness.js";
import { offerThemes } from "./themes.js";

const PAGES = [
  { path: "", name: "Overview", module: "overview", scopes: ["manage", "operate"], key: "o" },
  { path: "books", name: "Books", module: "books", scopes: ["manage"], key: "b" },
  { path: "users", name: "Users", module: "users", scopes: ["manage"], key: "u" },
  { path: "redemptions", name: "Redemptions", module: "redemptions", scopes: ["manage"], key: "r" },
  { path: "reports", name: "Reports", module: "reports", scopes: ["manage"], key: "p" },
  { path: "webhooks", name: "Webhooks", module: "webhooks", scopes: ["operate"], key: "w" },
  { path: "jobs", name: "Jobs", module: "jobs", scopes: ["manage", "operate"], key: "j" },
  { path: "keys", name: "Keys", module: "keys", scopes: ["operate"], key: "k" },
  { path: "audit", name: "Audit", module: "audit", scopes: ["operate"], key: "a" },
  { path: "settings", name: "Settings", module: "settings", scopes: ["operate"], key: "s" },
  { path: "sale", name: "Flash sale", module: "sale", scopes: ["manage"], key: "f", demo: true },
];
const HIDDEN = [
  { path: "book", module: "book", of: "books" },
  { path: "liability", module: "liability", of: "reports", scopes: ["manage"] },
  { path: "webhook", module: "webhook", of: "webhooks", scopes: ["operate"] },
  { path: "search", module: "search" },
  { path: "refused", module: "refused", scopes: ["operate"] },
  ...["code", "user", "order", "key", "request"].map((path) => ({ path, module: "timeline" })),
];

const CONTROLS = "a[href], button:enabled, input:enabled, select, textarea, summary";
const FIRST = "[data-first]:enabled"; // what a row is for, where that is not its first control
const STOPS = { rows: "tbody tr, .timeline li", parts: "form, .tabs, .card" };
const by = (id) => document.getElementById(id);
let session = null;
let current = null; // the AbortController of the current page
let waitsForPage = false; // after `g`

class Page {
  constructor(signal) {
    this.signal = signal;
    this.session = session;
    this.address = location.hash;
    this.freshness = new Freshness(signal);
  }

  // Show this address in the page's stead, unless the user has chosen another, whose event comes later.
  giveWay(address) {
    if (location.hash === this.address) location.replace(address);
  }

  may(...scopes) {
    return scopes.some((scope) => session.scopes.includes(scope));
  }

  // Run it now and repeatedly, one at a time, while the page is open and visible.
  every(ms, act) {
    const again = async () => {
      if (this.signal.aborted) return;
      if (!document.hidden) await act().then(() => this.signal.aborted || this.freshness.succeed(act), (error) => this.signal.aborted || this.freshness.fail(act, error));
      if (!this.signal.aborted) setTimeout(again, ms);
    };
    return again();
  }

  async get(path) {
    const answer = await get(path, { signal: this.signal });
    if (!this.signal.aborted) this.freshness.succeed();
    return answer;
  }
}

function allowed({ scopes, demo }) {
  return (!scopes || scopes.some((scope) => session.scopes.includes(scope))) && (!demo || (session.flashSale && session.scopes.includes("checkout")));
}

// ---- routing

function absence(target) {
  const missing = target?.scopes?.every((scope) => !session.scopes.includes(scope));
  return [
    h("h1", { tabindex: -1 }, missing ? `Your ${session.person ? "role" : "key"} may not open this page` : "This page does not exist"),
    missing && h("p", {}, `${session.person ? "It needs a role" : "Sign in with a key"} that has the scope ${target.scopes.join(" or ")}; yours has ${session.scopes.join(", ")}.`),
    h("p", {}, h("a", { href: "#/" }, "Go to the overview")),
  ];
}

async function route() {
  if (!session) return;
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [first = "", ...names] = path.split("/").map(decodeURIComponent);
  const target = [...PAGES, ...HIDDEN].find((page) => page.path === first);
  current?.abort();
  current = new AbortController();
  const { signal } = current;
  const focused = document.activeElement;
  const typed = focused?.value;
  if (!("kept" in by("dialog").dataset)) by("dialog").close();
  by("nav").classList.remove("open");
  by("menu").setAttribute("aria-expanded", "false");
  for (const link of by("nav").children) {
    const here = link.dataset.page === (target?.of ?? first);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const main = by("main");
  if (!target || !allowed(target)) return fill(main, ...absence(target));
  try {
    const { show } = await import(`./${target.module}.js`);
    if (signal.aborted) return;
    const place = h("div", { class: "unseen" });
    fill(main, place);
    await show(main, { kind: first, names, query: new URLSearchParams(query) }, new Page(signal));
  } catch (error) {
    if (signal.aborted) return;
    fill(main, h("h1", { tabindex: -1 }, error.status === 404 ? "Not found" : "An error occurred"), h("p", { class: "banner bad" }, words(error)),
      h("p", {}, h("button", { type: "button", onclick: route }, "Try again")));
  }
  if (!signal.aborted) {
    // A choice that opens the page anew keeps the focus. If the user has moved the focus while the page loaded, as to the
    // search, or types there, it stays.
    const choice = focused?.matches("select[name]") ? main.querySelector(`select[name="${focused.name}"]`) : null;
    if (!choice) scrollTo(0, 0);
    const here = document.activeElement;
    if (here === document.body || (here === focused && here.value === typed)) (choice ?? main.querySelector("h1"))?.focus({ preventScroll: choice !== null });
  }
}

// ---- session

// Why the provider's sign-in was refused, by the code in the page's address (service/server/access/people.py).
const REFUSED = {
  ended: "The sign-in took too long, or began in another browser. Sign in again.",
  failed: "Your company's sign-in did not work. Try again; if it fails again, tell whoever operates Scrip: its log says why.",
  no_role: "You are signed in at your company, but have no role here. Ask whoever manages accounts for one.",
  unknown: "This workspace has no sign-in with a company's account. Check its name, or use a key.",
};

// With one workspace, one button; with several, the name of one is needed too: the page does not list them.
function offerProvider() {
  const workspaces = Number(document.querySelector("meta[name=scrip-sign-in]").content);
  by("provider").hidden = workspaces === 0;
  by("which").hidden = workspaces < 2;
  by("to-provider").addEventListener("click", () => {
    const workspace = by("sign-in-workspace").value.trim();
    if (workspaces > 1 && !workspace) return by("sign-in-workspace").focus();
    location.assign(at("/console/sign-in", { workspace }));
  });
  by("sign-in-workspace").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // else it would send the form, which needs a key
    by("to-provider").click();
  });
  const refused = new URLSearchParams(location.search).get("refused");
  if (refused === null) return;
  by("sign-in-error").textContent = REFUSED[refused] ?? REFUSED.failed;
  history.replaceState(null, "", location.pathname);
}

async function begin() {
  try {
    session = await get("/console/session");
  } catch (error) {
    by("sign-in-error").textContent = words(error);
  }
  if (!session) return leave();
  useToken(session.csrfToken);
  by("sign-in").hidden = true;
  by("frame").hidden = false;
  by("workspace").textContent = [session.person, session.workspace, session.mode === "test" && "test"].filter(Boolean).join(" · ");
  fill(by("nav"), PAGES.filter(allowed).map(({ path, name }) => h("a", { href: `#/${path}`, "data-page": path }, name)));
  await route();
}

function leave() {
  session = null;
  current?.abort();
  fill(by("main"));
  by("dialog").close();
  by("frame").hidden = true;
  by("sign-in").hidden = false;
  document.title = "Sign in · Scrip";
  by(by("provider").hidden ? "key" : by("which").hidden ? "to-provider" : "sign-in-workspace").focus();
}

by("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button:not([type=button])");
  by("sign-in-error").textContent = "";
  button.disabled = true;
  try {
    await post("/console/session", { key: by("key").value.trim() });
    by("key").value = "";
    await begin();
  } catch (error) {
    by("sign-in-error").textContent = error.code === "unauthenticated" ? "This key does not exist, or was revoked." : words(error);
    by("key").select();
  } finally {
    button.disabled = false;
  }
});

by("sign-out").addEventListener("click", async () => {
  try {
    await remove("/console/session");
    leave();
  } catch (error) {
    tell(error);
  }
});

addEventListener("signed-out", () => {
  if (!session) return;
  leave();
  by("sign-in-error").textContent = "Your session has ended. Sign in again.";
});

// ---- keyboard

function help() {
  const rows = [["/", "Search"], ["?", "This help"], ["j k", "Next row, previous row"], ["n p", "Next part of the page, previous part"], ["Ctrl Enter", "Send the form"], ["Esc", "Leave the field, for these keys"], ...PAGES.filter(allowed).map(({ key, name }) => [`g ${key}`, name])];
  ask("Keyboard shortcuts", h("dl", { class: "pairs" }, rows.map(([keys, name]) => [
    h("dt", {}, keys.split(" ").map((key) => [h("kbd", {}, key), " "])), h("dd", {}, name),
  ])), null, async () => null);
}

// Focus the main or first control of the next or previous row or part of the page.
function walk(kind, following) {
  const from = document.activeElement;
  const where = following ? Node.DOCUMENT_POSITION_FOLLOWING : Node.DOCUMENT_POSITION_PRECEDING;
  const stops = [...by("main").querySelectorAll(STOPS[kind])]
    .filter((stop) => stop.querySelector(CONTROLS) && !stop.contains(from) && from.compareDocumentPosition(stop) & where);
  const stop = stops.at(following ? 0 : -1);
  (stop?.querySelector(FIRST) ?? stop?.querySelector(CONTROLS))?.focus();
}

addEventListener("keydown", (event) => {
  const { form } = event.target;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && form?.querySelector("button:not([type=button])")) {
    event.preventDefault();
    return form.requestSubmit();
  }
  if (!session || event.ctrlKey || event.metaKey || event.altKey || by("dialog").open) return;
  if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const page = waitsForPage && PAGES.find(({ key }) => key === event.key);
  waitsForPage = event.key === "g";
  if (page && allowed(page)) location.hash = `#/${page.path}`;
  else if (event.key === "/") {
    by("search").focus();
    by("search").select();
  } else if (event.key === "?") help();
  else if ("jk".includes(event.key)) walk("rows", event.key === "j");
  else if ("np".includes(event.key)) walk("parts", event.key === "n");
  else return;
  event.preventDefault();
});

by("help").addEventListener("click", help);
by("menu").addEventListener("click", () => {
  const open = by("nav").classList.toggle("open");
  by("menu").setAttribute("aria-expanded", String(open));
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  by("main").focus();
});
by("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = by("search").value.trim();
  if (text) location.hash = `#/search/${encodeURIComponent(text)}`;
});
addEventListener("hashchange", route);
offerThemes(by("theme"));
offerProvider();
begin();
