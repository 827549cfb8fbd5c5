// The button that changes the theme: system, light, dark. theme.js sets it before the first paint.

const THEMES = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "☀", dark: "☾" };

const read = () => localStorage.getItem("scrip.theme") ?? "system";

function paint(button) {
  const theme = read();
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.textContent = SIGNS[theme];
  button.setAttribute("aria-label", `Theme: ${theme}`);
  button.title = `Theme: ${theme}`;
}

export function offerThemes(button) {
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(read()) + 1) % THEMES.length];
    if (next === "system") localStorage.removeItem("scrip.theme");
    else localStorage.setItem("scrip.theme", next);
    paint(button);
  });
  paint(button);
}
