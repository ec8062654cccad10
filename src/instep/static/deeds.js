// Changes asked for from a row: the dialog closes at once, the row waits, the answer raises what it has to say.
import { toast } from "./toasts.js";

const WATCH_MS = 1_500, FAULT_MS = 60_000;
const busy = new Map(); // id of a row -> how many answers it waits for
const faults = new Map(); // selector of a place in a row -> {why, at}: what was shown as done and taken back there

// What only this page knows, put into the rows again after each reading of the list.
const mark = () => {
  for (const row of document.querySelectorAll("tr.is-busy")) if (!busy.has(row.id)) unmark(row);
  for (const id of busy.keys()) {
    const row = document.getElementById(id);
    row?.classList.add("is-busy");
    row?.setAttribute("aria-busy", "true");
  }
  for (const [where, { why, at }] of faults) {
    if (Date.now() - at > FAULT_MS) faults.delete(where);
    else putFault(document.querySelector(where), why);
  }
};

function putFault(place, why) {
  if (!place || place.querySelector(".cell-fault")) return;
  const fault = document.createElement("p");
  fault.className = "cell-fault";
  fault.textContent = why;
  place.append(fault);
}

// Why it was taken back; without a reason the place is free of an earlier one.
function blame(where, why) {
  faults.delete(where);
  document.querySelector(`${where} .cell-fault`)?.remove();
  if (why) faults.set(where, { why, at: Date.now() });
  mark();
}

function unmark(row) {
  row.classList.remove("is-busy");
  row.removeAttribute("aria-busy");
}

function wait(id, more) {
  if (!id) return;
  const count = (busy.get(id) ?? 0) + more;
  if (count > 0) busy.set(id, count);
  else busy.delete(id);
  mark();
}

const unreachable = () => {
  const words = document.getElementById("failure-words").dataset;
  toast({ title: words.title, text: words.unknown, tone: "error" });
};

// Sends a form as htmx would, without needing it to stay in the page. Gives what was raised, and whether it went well.
async function send(form) {
  const data = new FormData(form);
  if (!data.get("key")) data.set("key", crypto.randomUUID());
  const headers = { "HX-Request": "true", "HX-Request-Type": "partial", "HX-Current-URL": location.href };
  const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(data), headers });
  const onward = answer.headers.get("HX-Redirect");
  if (onward) location.assign(onward);
  return { isWell: answer.ok, raised: JSON.parse(answer.headers.get("HX-Trigger") ?? "{}") };
}

const raise = (raised) => {
  for (const [name, detail] of Object.entries(raised)) document.dispatchEvent(new CustomEvent(name, { detail }));
};

async function perform(form) {
  const row = form.dataset.row;
  form.closest("dialog")?.close();
  wait(row, 1);
  try {
    raise((await send(form)).raised);
  } catch {
    unreachable();
  } finally {
    wait(row, -1);
  }
}

// A choice that is saved as it is made: shown as if it were done, taken back visibly where it was not.
async function save(select) {
  const form = select.form;
  const where = `#${CSS.escape(form.dataset.row)} form[data-saves]`;
  const before = [...select.options].findIndex((option) => option.defaultSelected);
  blame(where, "");
  form.toggleAttribute("data-saving", true);
  wait(form.dataset.row, 1);
  const back = (why) => {
    select.selectedIndex = before;
    blame(where, why);
  };
  try {
    const { isWell, raised } = await send(form);
    if (!isWell) back(raised.toast?.text || raised.toast?.title || "");
    raise(raised);
  } catch {
    back(document.getElementById("failure-words").dataset.title);
    unreachable();
  } finally {
    form.toggleAttribute("data-saving", false);
    wait(form.dataset.row, -1);
  }
}

// The end of an operation that was not known yet: asked for until it is there.
async function watch({ url, toast: said }) {
  const close = toast({ ...said, tone: "wait" });
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    let answer;
    try {
      answer = await fetch(url, { headers: { "HX-Request": "true", "HX-Request-Type": "partial" } });
    } catch { continue; }
    const found = answer.ok ? await answer.json() : { is_open: false };
    if (found.is_open) continue;
    close();
    if (found.toast) toast(found.toast);
    raise({ "people-changed": {}, "region-changed": {} });
    return;
  }
}

// A name that is being saved is shown in its row as if it were; where it was not, the old one comes back.
const shown = new Map();
const nameIn = (id) => `#${CSS.escape(id)} td:has(.person-name)`;

function foretell(form) {
  const name = document.querySelector(`#${CSS.escape(form.dataset.shows)} .person-name bdi`);
  const words = ["first_name", "last_name"].map((part) => form.elements[part].value.trim()).filter(Boolean).join(" ");
  if (!name || !words) return;
  blame(nameIn(form.dataset.shows), "");
  shown.set(form.dataset.shows, name.textContent);
  name.textContent = words;
  wait(form.dataset.shows, 1);
}

function settle(id, isWell) {
  if (!shown.has(id)) return;
  const name = document.querySelector(`#${CSS.escape(id)} .person-name bdi`);
  if (!isWell && name) {
    name.textContent = shown.get(id);
    const why = document.querySelector("#profile-error > span, #profile-form .field-error > span")?.firstChild.textContent;
    blame(nameIn(id), why);
  }
  shown.delete(id);
  wait(id, -1);
}

export function startDeeds() {
  document.addEventListener("htmx:before:request", ({ detail }) => {
    if (detail.ctx.sourceElement?.matches?.("form[data-shows]")) foretell(detail.ctx.sourceElement);
  });
  document.addEventListener("htmx:finally:request", ({ detail }) => {
    const id = detail.ctx.sourceElement?.dataset?.shows;
    if (id) settle(id, detail.ctx.response?.status < 300);
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-deed]")) return;
    event.preventDefault();
    if ("saves" in event.target.dataset) return;
    perform(event.target);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("form[data-saves] select")) save(event.target);
  });
  document.addEventListener("operation-watch", ({ detail }) => watch(detail));
  document.addEventListener("htmx:after:swap", mark);
}
