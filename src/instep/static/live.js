// The open list follows what happens: a server-sent "change" reads it again, morphs it in and says what is new.
import { ago } from "./times.js";

const PAGE = 25, SETTLE_MS = 120, RETRY_MS = 5_000, PATIENCE_MS = 3_000, MARKED_MS = 60_000;
const list = document.getElementById("people");
const line = () => document.getElementById("live-line");
let source = null, wasAway = false, isReading = false, isAgain = false, timer = 0, staleTimer = 0;
let asked = ""; // the address of the page when the list was asked for
let news = null; // {text, at}: what changed last
let mark = { id: "", at: 0 }; // the invitation that was just sent from here
let say = () => {};

const rows = () => [...document.querySelectorAll("#rows > tr")];
const snapshot = () => new Map(rows().map((row) => [row.id, { ...row.dataset }]));
const hasMore = () => document.getElementById("more") !== null;

// The same page again, with as many rows as are open now.
function here() {
  const url = new URL(location.href);
  for (const name of ["marked", "shown"]) url.searchParams.delete(name);
  if (rows().length > PAGE) url.searchParams.set("shown", rows().length);
  if (mark.id && Date.now() - mark.at < MARKED_MS) url.searchParams.set("marked", mark.id);
  return url.pathname + url.search;
}

async function refresh({ isSilent = false } = {}) {
  if (isReading) { isAgain = true; return; }
  isReading = true;
  asked = location.href;
  const [before, wasPart] = [snapshot(), hasMore()];
  try {
    await htmx.ajax("GET", here(), { source: list, target: list, swap: "innerMorph", push: "false" });
  } finally {
    isReading = false;
  }
  tell(compare(before, snapshot(), wasPart || hasMore()), isSilent);
  document.dispatchEvent(new CustomEvent("list-read")); // for what else is open over it
  if (isAgain) { isAgain = false; setTimeout(() => refresh(), SETTLE_MS); }
}

// What is new, in words. Of a list that is open only in part, rows that moved in or out of sight are no news.
function compare(before, after, isPart) {
  const words = JSON.parse(list.dataset.says), said = [], fresh = [], gone = new Map();
  for (const [id, row] of before) if (!after.has(id)) gone.set(row.email || id, row);
  for (const [id, row] of after) {
    const old = before.get(id), left = gone.get(row.email);
    const fill = (key) => words[key].replace(/\{(\w+)\}/g, (_, part) => row[part]);
    if (!old && row.kind === "member" && left?.kind === "invitation") said.push(fill("accepted"));
    else if (!old && row.kind === "invitation" && !left) said.push(fill("invited"));
    else if (!old && row.kind === "member" && !isPart) said.push(fill("joined"));
    else if (old && old.state !== row.state) said.push(fill("state"));
    else if (old && old.role !== row.role) said.push(fill("role"));
    else continue;
    gone.delete(row.email);
    fresh.push(id);
  }
  if (!isPart) for (const row of gone.values()) said.push(words.left.replace("{name}", () => row.name));
  const [first, ...others] = said;
  return { fresh, text: others.length ? `${first}, ${words.more.replace("{count}", others.length)}` : first };
}

function tell({ fresh, text }, isSilent) {
  for (const id of fresh) {
    const row = document.getElementById(id);
    row.classList.add("is-fresh");
    row.addEventListener("animationend", () => row.classList.remove("is-fresh"), { once: true });
  }
  if (!text) return;
  news = { text, at: Date.now() };
  if (!isSilent) say(text);
  show();
}

function show() {
  const shown = line();
  if (!shown) return;
  const text = shown.querySelector("[data-part=text]");
  const isStale = "stale" in shown.dataset;
  shown.hidden = source === null;
  text.textContent = isStale ? JSON.parse(list.dataset.says).stale : news ? `${news.text} · ${ago(news.at)}` : text.dataset.quiet;
}

function setStale(isStale) {
  clearTimeout(staleTimer);
  if (line()) line().toggleAttribute("data-stale", isStale);
  show();
}

function connect() {
  source = new EventSource(list.dataset.live);
  source.addEventListener("ready", () => {
    if (wasAway) refresh();
    wasAway = false;
    setStale(false);
  });
  source.addEventListener("change", () => {
    clearTimeout(timer);
    timer = setTimeout(() => refresh(), SETTLE_MS);
  });
  source.addEventListener("error", ({ target }) => {
    wasAway = true;
    clearTimeout(staleTimer);
    staleTimer = setTimeout(() => setStale(true), PATIENCE_MS);
    if (target.readyState === EventSource.CLOSED) setTimeout(() => { if (target === source) reconnect(); }, RETRY_MS);
  });
}

// Refused, not broken: whoever is signed out by now is led to sign in by the answer to `refresh`.
function reconnect() {
  connect();
  refresh();
}

function disconnect() {
  source?.close();
  source = null;
  wasAway = true;
}

// A hidden page gives its connection back (a browser has few of them) and catches up when it is seen again.
export function startLive(announce) {
  if (!list) return;
  say = announce;
  connect();
  setInterval(show, 1_000);
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => { if (event.persisted && !source) connect(); });
  document.addEventListener("people-changed", ({ detail }) => {
    if (detail.marked) mark = { id: detail.marked, at: Date.now() };
    refresh({ isSilent: true });
  });
  document.addEventListener("htmx:before:swap", (event) => {
    const { sourceElement, response } = event.detail.ctx;
    if (sourceElement !== list) return;
    const isOvertaken = asked !== location.href || list.querySelector(".search.htmx-request");
    if (isOvertaken) isAgain = true; // the reader has moved on meanwhile: this is not what they look at
    if (response.status >= 400) setStale(wasAway = true); // keep the list that is there, and say that it is old
    if (isOvertaken || response.status >= 400) event.preventDefault();
  });
}
