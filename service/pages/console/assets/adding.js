// Adding codes to a book by an upload, with a dry run first.

import { ask as request } from "./api.js";
import { download, field, fill, h, input, number, pairs, plural, table, tell, toast } from "./dom.js";

const UPLOAD_MS = 600_000;
const TRIED_BYTES = 4 << 20;
const SHOWN = 20;
const TEMPLATE = "code,userId,expiresAt,maxRedemptions\nSUMMER-0001,,,\nSUMMER-0002,user-42,2030-01-01T00:00:00Z,3\n";

// A CSV cell; an apostrophe precedes a text that a spreadsheet would evaluate as a formula.
function cell(value) {
  const text = String(value);
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

function renderResult(result, book, tried) {
  const refused = () => download(`refused-${book.bookId}.csv`,
    ["line,code,reason", ...result.errors.map(({ line, code, reason }) => [line, code, reason].map(cell).join(","))].join("\r\n"));
  return [
    pairs([
      [tried ? "Would be added" : "Added", number(result.added)],
      ["Duplicates", number(result.duplicates)],
      ["Refused", number(result.invalid)],
    ]),
    result.errors.length > 0 && [
      table("Invalid lines", [
        { name: "Line", number: true, of: ({ line }) => number(line) },
        { name: "Code", of: ({ code }) => h("span", { class: "code" }, code) },
        { name: "Reason", of: ({ reason }) => reason },
      ], result.errors.slice(0, SHOWN)),
      h("p", { class: "row" }, h("button", { type: "button", onclick: refused }, "Save the invalid lines"),
        result.invalid > result.errors.length && h("span", { class: "hint" }, `the first ${number(result.errors.length)} of them`)),
    ],
  ];
}

// The form of an upload: a file or lines; dry run first, then upload.
export function uploading(book, place, done) {
  const file = input({ type: "file", accept: ".csv,.txt,text/csv,text/plain" });
  const lines = h("textarea", { spellcheck: "false", rows: 4 });
  const result = h("div", { role: "status", class: "card", hidden: true });
  const go = h("button", { type: "button", class: "primary", disabled: true }, "Upload");
  const check = h("button", { type: "button" }, "Try it");

  const send = async (dryRun) => {
    const body = file.files[0] ?? new Blob([lines.value]);
    if (body.size === 0) throw new Error("Choose a file, or enter codes.");
    if (dryRun && body.size > TRIED_BYTES) throw new Error("A file of more than 4 MiB can't be checked, but can be uploaded in parts.");
    const start = (await body.slice(0, 200).text()).replace(/^\uFEFF/, "");
    const type = /^code\s*(,|\r?\n|$)/.test(start) ? "text/csv" : "text/plain";
    const response = await request("POST", `/v1/books/${book.bookId}/codes${dryRun ? "?dryRun=true" : ""}`, { body, type, timeoutMs: UPLOAD_MS });
    return response.json();
  };
  const run = async (dryRun) => {
    check.disabled = go.disabled = true;
    try {
      const answer = await send(dryRun);
      result.hidden = false;
      fill(result, renderResult(answer, book, dryRun));
      go.disabled = !dryRun || answer.added === 0;
      if (dryRun) go.textContent = `Upload ${plural(answer.added, "code")}`;
      else {
        toast(`${plural(answer.added, "code")} added to ${book.name}.`);
        if (answer.invalid === 0) done();
      }
    } catch (error) {
      tell(error);
    } finally {
      check.disabled = false;
    }
  };
  for (const control of [file, lines]) control.addEventListener("input", () => { go.disabled = true; result.hidden = true; });
  check.addEventListener("click", () => run(true));
  go.addEventListener("click", () => run(false));
  fill(place, h("section", { class: "card", "aria-label": "Upload" },
    h("header", {}, h("h2", { tabindex: -1 }, "Upload codes"),
      h("button", { type: "button", class: "quiet", onclick: () => download("codes.csv", TEMPLATE) }, "Save a template")),
    h("div", { class: "form" },
      field("A file", file, "CSV with the header code[,userId][,expiresAt][,maxRedemptions], or a code a line."),
      field("Or codes, one a line", lines)),
    h("div", { class: "row" }, check, go, h("button", { type: "button", class: "quiet", onclick: () => fill(place) }, "Close")),
    result));
  place.querySelector("h2").focus();
}
