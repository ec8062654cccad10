// Messages: a toast for the eyes, the one live region for ears.
const STAYS_MS = 5_000;

export function say(text) {
  const live = document.getElementById("live");
  live.textContent = "";
  setTimeout(() => { live.textContent = text; }, 50); // emptied first, so that the same words are said again
}

// A success goes by itself (not while it is pointed at), an error stays until it is dismissed, "wait" until it is closed.
export function toast({ title, text = "", tone = "success", request_id: request }) {
  const toaster = document.getElementById("toasts");
  const shown = document.getElementById("toast-template").content.firstElementChild.cloneNode(true);
  const part = (name) => shown.querySelector(`[data-part=${name}]`);
  shown.dataset.tone = tone;
  part("title").textContent = title;
  if (text) part("text").textContent = text;
  else part("text").remove();
  if (request) {
    part("request").dataset.copy = request;
    part("request").querySelector("code").textContent = request;
  } else part("request").remove();
  const close = () => {
    shown.remove();
    if (!toaster.childElementCount && toaster.matches(":popover-open")) toaster.hidePopover();
  };
  shown.querySelector("[data-close]").addEventListener("click", close);
  toaster.append(shown);
  raise(toaster);
  if (tone === "success") goLater(shown, close);
  say(text ? `${title}. ${text}` : title);
  return close;
}

export const opener = (menu) => document.querySelector(`[popovertarget="${CSS.escape(menu.id)}"]`);

// Again, to lie above a dialog that opened since; but below a menu that is open, which would be out of reach.
function raise(toaster) {
  if (toaster.matches(":popover-open")) toaster.hidePopover();
  toaster.showPopover();
  const menu = document.querySelector(".menu:popover-open"), at = document.activeElement;
  if (!menu) return;
  menu.hidePopover();
  menu.showPopover({ source: opener(menu) });
  for (const opening of menu.getAnimations()) opening.finish(); // it was seen to open already
  at.focus({ preventScroll: true });
}

function goLater(shown, close) {
  setTimeout(() => (shown.matches(":hover, :focus-within") ? goLater(shown, close) : close()), STAYS_MS);
}
