// The page's requests and responses, newest first, each with a curl command that repeats the request.

import { curl } from "./curl.js";

const MOST = 20;
const place = document.getElementById("exchanges");

function text(tag, content, label = null) {
  const made = document.createElement(tag);
  made.textContent = content;
  if (label) made.setAttribute("aria-label", label);
  if (tag === "pre") made.tabIndex = 0;
  return made;
}

function pretty(body) {
  return body === null ? "(no body)" : JSON.stringify(body, null, 2);
}

export function show({ path, body, headers, answer, key }) {
  const sent = typeof body === "string" ? body : JSON.stringify(body);
  const made = document.createElement("details");
  const command = curl({ path, body: sent, headers, key });
  const copy = text("button", "Copy");
  copy.type = "button";
  copy.setAttribute("aria-label", `Copy the command of POST ${path}`);
  copy.addEventListener("click", () => navigator.clipboard.writeText(command).then(() => { copy.textContent = "Copied"; }, () => getSelection().selectAllChildren(made)));
  const summary = text("summary", `POST ${path} `);
  const status = text("code", answer.status || "no answer");
  status.dataset.kind = answer.status && answer.status < 400 ? "good" : "bad";
  summary.append(status);
  made.append(summary, text("pre", command, "The request as a command"), copy, text("pre", pretty(answer.body), "The answer"));
  place.querySelector("p")?.remove();
  place.prepend(made);
  while (place.children.length > MOST) place.lastElementChild.remove();
}
