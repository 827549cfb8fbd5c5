// Set the chosen or the system's theme before the first paint.
const chosen = localStorage.getItem("scrip.theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
