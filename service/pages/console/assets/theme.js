// Before anything is drawn: the theme that was chosen here, or the system's.
const chosen = localStorage.getItem("scrip.theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
