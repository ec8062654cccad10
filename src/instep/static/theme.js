// Sets the theme before the first paint: "light" or "dark" where the reader chose one, otherwise the system's.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("instep-theme"); } catch { /* storage is off: follow the system */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
