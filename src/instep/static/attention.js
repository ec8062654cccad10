// What waits for admins: the badges and the notice follow what happens, and so does a region that says what it follows.
const SETTLE_MS = 150, RETRY_MS = 5_000, PAGE_ROWS = 50;
const notice = document.querySelector("[data-attention]");
let source = null, timer = 0, wasAway = false;

const followed = () => document.querySelector("#region[data-follows]");

// A list that was opened further down stays as it is: reading it again would fold it up.
const isFolded = () => document.querySelectorAll("#rows > tr").length <= PAGE_ROWS;

function refresh() {
  htmx.ajax("GET", notice.dataset.attention, { source: notice, target: notice, swap: "none", push: "false" });
  if (followed() && isFolded()) document.dispatchEvent(new CustomEvent("region-changed"));
}

function connect() {
  const follows = followed()?.dataset.follows;
  source = new EventSource(`${notice.dataset.attention}/live${follows ? `?follows=${follows}` : ""}`);
  source.addEventListener("ready", () => {
    if (wasAway) refresh();
    wasAway = false;
  });
  source.addEventListener("change", () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, SETTLE_MS);
  });
  source.addEventListener("error", ({ target }) => {
    wasAway = true;
    if (target.readyState === EventSource.CLOSED) setTimeout(() => { if (target === source) connect(); }, RETRY_MS);
  });
}

function disconnect() {
  source?.close();
  source = null;
  wasAway = true;
}

// A hidden page gives its connection back and catches up when it is seen again.
export function startAttention() {
  if (!notice) return;
  connect();
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => { if (event.persisted && !source) connect(); });
}
