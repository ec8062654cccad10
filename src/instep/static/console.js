// The console's own behaviour: theme, dialogs, menus, copying, keys. Without it the pages still work.
import { opener, say, toast } from "./toasts.js";
import { keepTimes } from "./times.js";
import { startLive } from "./live.js";
import { startDeeds } from "./deeds.js";
import { pick, startPicks } from "./picks.js";
import { openPalette, startPalette } from "./palette.js";
import { startAttention } from "./attention.js";

const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Theme: the system's, or what the reader chose; theme.js applies it before the first paint.
function showTheme() {
  const chosen = document.documentElement.dataset.theme ?? "";
  for (const button of all("[data-theme-choice]")) button.setAttribute("aria-pressed", button.dataset.themeChoice === chosen);
}

function chooseTheme(choice) {
  if (choice) document.documentElement.dataset.theme = choice;
  else delete document.documentElement.dataset.theme;
  try {
    if (choice) localStorage.setItem("instep-theme", choice);
    else localStorage.removeItem("instep-theme");
  } catch { /* storage is off: it holds for this page */ }
  showTheme();
}

// Dialogs arrive in #dialog; the browser gives focus back to where it was when they close.
function openDialogs() {
  one("#dialog > dialog[data-modal]:not([open])")?.showModal();
  one("dialog[open] [aria-invalid=true], dialog[open] [data-focus]")?.focus();
}

function closeDialog() {
  one("#dialog > dialog[open]")?.close();
}

async function copy(button) {
  const text = button.dataset.copy ?? one("code", button).textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return; // not allowed here: the text can still be marked by hand
  }
  button.closest(".menu")?.hidePopover();
  const isSecret = "secret" in button.dataset || "secretKept" in button.dataset;
  toast({ title: button.dataset.says ?? button.dataset.copied, text: isSecret ? "" : text, tone: "success" });
  if ("secret" in button.dataset) button.closest("dialog")?.close();
}

// A morph keeps what was typed; a field that goes back to what is stored must say so itself, until it is typed in again.
function rollBack() {
  for (const field of all("[data-rolled]")) field.value = field.defaultValue;
}
document.addEventListener("input", (event) => event.target.removeAttribute("data-rolled"));

// What was typed and went back is typed again.
function fill(button) {
  const field = document.getElementById(button.dataset.fills);
  field.value = button.dataset.value;
  field.removeAttribute("data-rolled");
  field.focus();
  button.closest(".field-rolled").remove();
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-theme-choice], [data-copy], [data-copied], [data-opens], [data-cancel], [data-fills]");
  if (!target) return;
  if ("themeChoice" in target.dataset) chooseTheme(target.dataset.themeChoice);
  else if ("fills" in target.dataset) fill(target);
  else if ("opens" in target.dataset) {
    target.closest(".menu")?.hidePopover();
    document.getElementById(target.dataset.opens).showModal();
  } else if ("cancel" in target.dataset) {
    const dialog = target.closest("dialog");
    if (dialog) {
      event.preventDefault();
      dialog.close();
    }
  } else copy(target);
});

document.addEventListener("close", (event) => {
  if (event.target.matches?.("dialog[data-modal]")) queueMicrotask(() => event.target.remove());
}, true);

// Menus: popovers open by themselves; here they get arrow keys, and a place where anchors are not known.
let isByKeyboard = false;
document.addEventListener("pointerdown", () => { isByKeyboard = false; }, true);
document.addEventListener("keydown", () => { isByKeyboard = true; }, true);

function placeMenu(menu) {
  if (CSS.supports("position-area", "block-end")) return;
  const [from, size] = [opener(menu).getBoundingClientRect(), menu.getBoundingClientRect()];
  const left = menu.dataset.align === "end" ? from.right - size.width : from.left;
  const hasRoom = from.bottom + size.height + 8 < innerHeight;
  menu.style.left = `${Math.max(8, Math.min(left, innerWidth - size.width - 8))}px`;
  menu.style.top = `${Math.max(8, hasRoom ? from.bottom : from.top - size.height - 8)}px`;
}

document.addEventListener("toggle", (event) => {
  const menu = event.target;
  if (!menu.matches?.(".menu")) return;
  const isOpen = event.newState === "open";
  opener(menu)?.setAttribute("aria-expanded", isOpen);
  if (!isOpen) return;
  placeMenu(menu);
  if (isByKeyboard && !menu.contains(document.activeElement)) one(".menu-item", menu)?.focus();
}, true);

function moveInMenu(event) {
  const menu = event.target.closest?.(".menu:popover-open");
  if (!menu) return false;
  const items = all(".menu-item", menu);
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (to === undefined || event.target.matches("input") && ["Home", "End"].includes(event.key)) return false;
  items.at(to % items.length)?.focus();
  event.preventDefault();
  return true;
}

// Keys.
function moveRow(step) {
  const rows = all("#rows > tr");
  const at = rows.indexOf(document.activeElement?.closest("tr"));
  const row = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + step))];
  row?.focus();
  row?.scrollIntoView({ block: "nearest" });
}

function openRowMenu(row) {
  const button = row && one(".row-menu", row);
  if (!button) return;
  button.click();
  one(".menu-item", document.getElementById(button.getAttribute("popovertarget"))).focus();
}

const KEYS = {
  "/": () => { one("#search")?.focus(); one("#search")?.select(); },
  "i": () => one("#invite")?.click(),
  "j": () => moveRow(1),
  "k": () => moveRow(-1),
  "Enter": () => one(".row-open", document.activeElement?.closest("tr"))?.click(),
  "x": () => pick(document.activeElement?.closest("tr")),
  ".": () => openRowMenu(document.activeElement?.closest("tr")),
  "?": () => one("#help")?.showModal(),
};

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    openPalette();
    return;
  }
  if (moveInMenu(event)) return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && !"jk".includes(event.key)) return;
  if (event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable], dialog[open]")) {
    if (event.key === "Escape" && event.target.id === "search") event.target.blur();
    return;
  }
  if (!Object.hasOwn(KEYS, event.key)) return;
  if (event.key === "Enter" && !event.target.matches?.("#rows > tr")) return;
  event.preventDefault();
  KEYS[event.key]();
});

// What answers raise (HX-Trigger), and what htmx reports.
document.addEventListener("toast", (event) => toast(event.detail));
document.addEventListener("dialog-close", closeDialog);
document.addEventListener("region-changed", () => {
  const region = one("#region");
  if (region) htmx.ajax("GET", location.pathname + location.search, { source: region, target: region, swap: "innerMorph", push: "false" });
});
document.addEventListener("go-to", ({ detail }) => location.assign(detail.url));
document.addEventListener("htmx:after:swap", () => { openDialogs(); keepTimes(); rollBack(); });
document.addEventListener("click", (event) => { if (event.target.closest(".menu-form")) event.target.closest(".menu")?.hidePopover(); });
document.addEventListener("htmx:error", (event) => {
  if (event.detail.ctx?.sourceElement?.id === "people") return; // live.js says so itself
  const words = one("#failure-words").dataset;
  toast({ title: words.title, text: words.text, tone: "error" });
});

showTheme();
one(".side-nav [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "center" }); // on a phone it is a row that scrolls
openDialogs();
keepTimes();
setInterval(keepTimes, 15_000);
startLive(say);
startDeeds();
startPicks();
startPalette(say);
startAttention();
