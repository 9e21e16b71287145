/* An experiment in place of a run: how far it is, what goes on, what has failed, the results so far. */

import { el, natural, setHidden, setText } from "./dom.js";
import { plural, roughly, seconds } from "./words.js";

/** Parts of the page that a run has and an experiment has not. */
const OF_RUNS = ["cards", "besides", "controls", "rounds", "fleet", "generator", "keys"];

export function study(run) {
  const section = document.getElementById("study");
  const title = el("h2", { id: "study-title" });
  const told = el("p", { class: "doing" });
  const bar = el("progress", { max: 1, value: 0, "aria-label": "runs that have ended" });
  const running = el("ul", { class: "running" });
  const failed = el("ul", { class: "notice bad" });
  const results = el("div");
  section.append(title, told, bar, running, failed, results);
  let written = "";

  run.show(["study", "run"], ({ study: now }) => {
    setHidden(section, !now);
    for (const id of OF_RUNS) setHidden(document.getElementById(id), Boolean(now));
    if (!now) return;
    const failures = Object.entries(now.failed ?? {}).sort(([a], [b]) => natural(a, b));
    setText(title, now.title || "Runs");
    setText(told, [`${now.done} of ${plural(now.runs, "run")} ended`, failures.length ? `▲ ${failures.length} of them failed` : "",
      now.left_s === undefined ? "" : `${roughly(now.left_s)} left`].filter(Boolean).join("; "));
    bar.max = Math.max(now.runs, 1);
    bar.value = now.done;
    running.replaceChildren(...Object.entries(now.running ?? {}).sort(([a], [b]) => natural(a, b)).map(([name, task]) => el("li", {},
      `${name}: ${task.steps ? `${task.done} of ${task.steps}` : task.done}, for ${seconds(task.since_s)} `,
      task.steps ? el("progress", { max: task.steps, value: task.done, "aria-label": `progress of ${name}` }) : null)));
    setHidden(failed, !failures.length);
    failed.replaceChildren(...failures.map(([name, why]) => el("li", {}, el("strong", {}, `▲ ${name}`), `: ${why}`)));
    draw(now.tables ?? [], now.notes ?? []);
  });

  function draw(tables, notes) {
    const key = JSON.stringify([tables, notes]);
    if (key === written) return;
    written = key;
    results.replaceChildren(...tables.map(table), notes.length ? el("ul", { class: "note" }, ...notes.map((note) => el("li", {}, note))) : "");
  }
}

function table({ caption, heading, rows }) {
  const head = heading.map((text, k) => {
    const [name, ...unit] = text.split("\n");
    return el("th", { scope: "col", class: k ? "" : "text" }, name, unit.length ? el("small", {}, ` ${unit.join(" ")}`) : null);
  });
  const body = rows.map((row) => el("tr", {}, ...row.map((text, k) => (k ? el("td", {}, text) : el("th", { scope: "row", class: "text" }, text)))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body)));
}
