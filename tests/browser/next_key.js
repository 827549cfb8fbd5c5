// Returns the key that brings the focus nearest to the target. `jumps` are [key, selector, isNext]: keys to the first control
// of the next or previous element that matches.
(target, jumps) => {
  const from = document.activeElement, controls = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  if (from === target) return "";
  const dialog = document.querySelector("dialog[open]");
  const all = [...(dialog ?? document).querySelectorAll(controls)].filter((one) => !one.disabled && one.tabIndex >= 0 && one.checkVisibility());
  const after = (one) => all.findIndex((other) => one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING);
  const place = (one) => all.includes(one) ? all.indexOf(one) : after(one) - 0.5;
  const far = (one) => Math.ceil(Math.abs(all.indexOf(target) - place(one)));
  const ways = [{ key: place(from) < all.indexOf(target) ? "Tab" : "Shift+Tab", left: far(from) }];
  if (!dialog && !from.matches("input:not([type=checkbox]), textarea, select")) for (const [key, stops, isNext] of jumps) {
    const side = isNext ? Node.DOCUMENT_POSITION_FOLLOWING : Node.DOCUMENT_POSITION_PRECEDING;
    const first = (stop) => all.find((one) => stop.contains(one) && one.matches("[data-first]")) ?? all.find((one) => stop.contains(one) && !one.matches(".scroll"));
    const there = [...document.querySelectorAll(stops)]
      .filter((stop) => first(stop) && !stop.contains(from) && from.compareDocumentPosition(stop) & side).at(isNext ? 0 : -1);
    if (there) ways.push({ key, left: 1 + far(first(there)) });
  }
  return ways.sort((one, other) => one.left - other.left)[0].key;
}
