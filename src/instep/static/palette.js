// The command palette: opened by Ctrl-K, walked by the arrow keys while the words stay under the cursor.
const dialog = document.getElementById("palette");
const field = () => dialog.querySelector(".palette-field");
const options = () => [...dialog.querySelectorAll("[role=option]")];
const chosen = () => dialog.querySelector("[aria-selected=true]");

function choose(option) {
  chosen()?.setAttribute("aria-selected", "false");
  option?.setAttribute("aria-selected", "true");
  option?.scrollIntoView({ block: "nearest" });
  if (option) field().setAttribute("aria-activedescendant", option.id);
  else field().removeAttribute("aria-activedescendant");
  field().setAttribute("aria-expanded", Boolean(option));
}

function move(step) {
  const all = options();
  const at = all.indexOf(chosen());
  choose(all[(at + step + all.length) % all.length]);
}

export function openPalette() {
  if (!dialog) return;
  if (dialog.open) { dialog.close(); return; }
  document.querySelector(".menu:popover-open")?.hidePopover();
  field().value = "";
  dialog.showModal();
  htmx.trigger(field(), "palette");
}

const STEPS = { ArrowDown: 1, ArrowUp: -1 };

function follow(option) {
  dialog.close();
  if ("shown" in option.dataset) htmx.ajax("GET", option.getAttribute("href"), { target: "#dialog", swap: "innerHTML", push: "false" });
}

export function startPalette(say) {
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-palette]") || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    openPalette();
  });
  if (!dialog) return;
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === field()) {
      event.preventDefault();
      chosen()?.click();
    } else if (event.key in STEPS) {
      event.preventDefault();
      move(STEPS[event.key]);
    }
  });
  dialog.addEventListener("pointermove", ({ target }) => {
    const option = target.closest("[role=option]");
    if (option && option !== chosen()) choose(option);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) { dialog.close(); return; } // beside the box
    const option = event.target.closest("[role=option]");
    if (!option || event.ctrlKey || event.metaKey) return;
    if ("shown" in option.dataset) event.preventDefault();
    follow(option);
  });
  document.addEventListener("htmx:after:swap", ({ detail }) => {
    if (detail.ctx?.sourceElement !== field()) return;
    choose(options()[0]);
    const none = document.getElementById("palette-none");
    if (none) say(none.textContent);
  });
}
