/* What stands below the fleet: events, and the generator's queue with its pictures. */

import { Amount, el, natural, setHidden, setText } from "./dom.js";
import { clock, general, plural } from "./words.js";

const SHOWN_EVENTS = 60;

/** Events and warnings, the latest first. */
export function events(run) {
  const section = document.getElementById("events");
  const problems = el("input", { type: "checkbox", id: "event-problems" });
  const list = el("ol", { class: "events", reversed: true });
  const none = el("p", { class: "note" }, "nothing yet");
  section.append(el("div", { class: "bar" }, el("h2", { id: "events-title" }, "Events"), el("label", { class: "check" }, problems, " only problems")),
    el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "The latest events" }, list, none));
  let written = "";

  function draw({ said }) {
    const numbers = Object.keys(said).reverse();
    const found = numbers.filter((number) => !problems.checked || said[number].problem).slice(0, SHOWN_EVENTS);
    const now = `${problems.checked} ${found.join(" ")}`;
    if (now === written) return;
    written = now;
    setHidden(none, found.length > 0);
    list.replaceChildren(...found.map((number) => {
      const { unix_s, text, problem } = said[number];
      return el("li", { class: problem ? "bad" : "", value: number }, el("time", {}, clock(unix_s)), problem ? el("strong", {}, " ▲ problem: ") : " ", text);
    }));
  }

  run.show(["said"], draw);
  problems.addEventListener("change", () => run.now && draw(run.now));
}

/** The generator: what is asked for and ready, and pictures per class. */
export function generator(run) {
  const section = document.getElementById("generator");
  const told = el("p");
  const bar = el("progress", { max: 1, value: 0, "aria-label": "batches that are ready" });
  const energy = new Amount();
  const joulesLine = el("p", {}, "Energy of drawing: ", energy.node);
  const pictures = el("div", { class: "pictures" });
  const noPictures = el("p", { class: "note" });
  const failed = el("ul", { class: "bad" });
  const delivered = el("details", {}, el("summary", {}, "Images by device"), el("ul", { class: "columns" }));
  section.append(el("h2", { id: "generator-title" }, "Synthetic images"), told, bar, joulesLine, failed, noPictures, pictures, delivered);
  let drawn = "";

  run.show(["generator", "run"], ({ generator: now = {}, run: about }) => {
    const { batches_asked: asked = 0, batches_done: done = 0, lacking, images_per_s } = now;
    const got = Object.entries(now.delivered ?? {}).sort(([a], [b]) => natural(a, b));
    const images = got.reduce((sum, [, count]) => sum + count, 0);
    setText(told, asked || images ? [
      `${done} of ${plural(asked, "batch", "batches")} ready`, lacking ? `${plural(lacking, "image")} still to be drawn` : "",
      images_per_s ? `${general(images_per_s, 3)} images/s of late` : "", `${plural(images, "image")} delivered to ${plural(got.length, "device")}`,
    ].filter(Boolean).join("; ") : "The plan has asked for none.");
    setHidden(bar, !asked);
    bar.max = Math.max(asked, 1);
    bar.value = Math.min(done, asked);
    setHidden(joulesLine, !now.energy);
    energy.set(now.energy);
    failed.replaceChildren(...Object.entries(now.failed ?? {}).map(([id, why]) => el("li", {}, `▲ ${id}: ${why}`)));
    setHidden(delivered, !got.length);
    delivered.lastChild.replaceChildren(...got.map(([id, count]) => el("li", {}, `${id}: ${count}`)));
    gallery(now.pictures ?? {}, about.classes ?? []);
  });

  function gallery(found, classes) {
    const names = Object.keys(found).sort((a, b) => classes.indexOf(a) - classes.indexOf(b) || natural(a, b));
    const key = JSON.stringify(names.map((name) => [name, found[name]]));
    setText(noPictures, names.length ? "Samples by class:" : "");
    setHidden(noPictures, !names.length);
    if (key === drawn) return;
    drawn = key;
    pictures.replaceChildren(...names.map((name) => el("figure", { class: "class" }, el("figcaption", {}, name),
      found[name].startsWith("data:image/png;") ? el("img", { src: found[name], alt: `a synthetic image of class ${name}` }) : "–")));
  }
}
