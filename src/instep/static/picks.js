// Selecting rows: kept while the list is read again, counted, and forgotten once it was acted upon.
const picked = new Set();
const boxes = () => [...document.querySelectorAll("#rows .pick")];

function show() {
  const here = boxes();
  for (const box of here) {
    box.checked = picked.has(box.id);
    box.closest("tr").classList.toggle("is-picked", box.checked);
  }
  const count = here.filter((box) => box.checked).length;
  const [all, words] = [document.getElementById("pick-all"), document.getElementById("bulk-count")];
  if (words) words.textContent = count;
  if (all) {
    all.checked = count > 0 && count === here.length;
    all.indeterminate = count > 0 && count < here.length;
  }
}

function choose(box, isChosen) {
  if (isChosen) picked.add(box.id);
  else picked.delete(box.id);
}

export function pick(row) {
  const box = row?.querySelector(".pick");
  if (!box) return;
  choose(box, !box.checked);
  show();
}

export function startPicks() {
  document.addEventListener("change", ({ target }) => {
    if (target.id === "pick-all") for (const box of boxes()) choose(box, target.checked);
    else if (target.matches(".pick")) choose(target, target.checked);
    else return;
    show();
  });
  document.addEventListener("reset", ({ target }) => {
    if (target.id !== "bulk") return;
    picked.clear();
    setTimeout(show);
  });
  document.addEventListener("htmx:after:swap", () => {
    if (document.getElementById("outcomes")) picked.clear();
    show();
  });
  show();
}
