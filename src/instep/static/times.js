// Keeps "3 min ago" true while the page is open, and tells the full time in the reader's own time zone.
const STEPS = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
const RECENT_SECONDS = 30 * 86_400;
const units = JSON.parse(document.body.dataset.units);

export function ago(at) {
  const seconds = Math.floor((Date.now() - at) / 1000);
  for (const [size, unit] of STEPS) if (seconds >= size) return units[unit].replace("{}", Math.floor(seconds / size));
  return units.now;
}

export function keepTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = Date.parse(time.dateTime);
    time.title = new Date(at).toLocaleString(document.documentElement.lang, { dateStyle: "long", timeStyle: "short" });
    if ("ago" in time.dataset && Date.now() - at < RECENT_SECONDS * 1000) {
      const words = ago(at);
      if (time.textContent !== words) time.textContent = words;
    }
  }
}
