// Runs before the first paint: no flash of the wrong theme, and controls that need scripts show only where scripts run.
{
  const root = document.documentElement;
  root.dataset.js = "";
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {
    // Storage can be forbidden; the theme then follows the system.
  }
}
