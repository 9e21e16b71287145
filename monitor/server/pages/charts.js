/* Pictures by plotly, which is loaded after the page can be used. Their language is that of the
 * report: the colours of tokens.css, shapes and dashes beside them, axes with units.
 *
 * chart     a figure with caption, words for those who do not see it, and a place to draw in
 * colour    a colour of the page as it is now */

import { el, setAttribute, setText } from "./dom.js";

let library = null;

/** Plotly, when it is there. */
function plotly() {
  library ??= new Promise((done, failed) => {
    const begin = () => {
      const script = el("script", { src: "/plotly.js" });
      script.addEventListener("load", () => done(window.Plotly));
      script.addEventListener("error", () => { library = null; script.remove(); failed(new Error("plotly's script is not there")); });
      document.head.append(script);
    };
    // After the first rows are drawn: parsing it takes a few hundred milliseconds.
    requestAnimationFrame(() => ("requestIdleCallback" in window ? requestIdleCallback(begin, { timeout: 1500 }) : setTimeout(begin, 300)));
  });
  return library;
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Shape and colour of a phase, as in the report. */
export const PHASES = {
  "synthetic-download": "triangle-up", "model-download": "square", compute: "pentagon", waiting: "hourglass",
  upload: "diamond", idle: "x", inference: "star",
};

export const axis = (title, more = {}) => ({
  title: { text: title, standoff: 8, font: { color: colour("soft"), size: 13 } }, automargin: true, zeroline: false,
  gridcolor: colour("grid"), linecolor: colour("edge"), tickcolor: "rgba(0,0,0,0)", ticks: "outside", ticklen: 5, ...more,
});

/** An axis of whole numbers: where they are few, each has its tick. */
export const roundAxis = (count) => axis("round", count <= 12 ? { dtick: 1 } : {});

export const line = (name, x, y, look) => ({
  type: "scatter", name, x, y, mode: x.length > 30 ? "lines" : "lines+markers",
  line: { color: colour(look.colour), dash: look.dash, width: 2 }, marker: { symbol: look.symbol, size: 7, color: colour(look.colour) },
  hovertemplate: look.hover,
});

function layout(height, more) {
  const ink = colour("ink");
  return {
    height, autosize: true, margin: { l: 8, r: 14, t: 30, b: 8 }, hovermode: "closest",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", font: { color: ink } }, showlegend: true,
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("edge"), font: { color: ink, size: 13 } },
    ...more,
  };
}

/** Fill a figure; returns `draw(make)`, where `make()` gives `{ data, layout, words }`. */
export function chart(figure, title, how, height = 260) {
  const heading = el("h3", {}, title);
  const caption = el("p", { class: "how" }, how);
  const place = el("div", { class: "plot", role: "img", style: `min-height:${height}px`, "aria-label": title });
  const told = el("p", { class: "note" }, "The picture is loading.");
  figure.append(el("figcaption", {}, heading, caption), place, told);
  let latest = null;
  let seen = false;
  let written = "";

  async function paint() {
    if (!latest || !seen) return;
    let drawer;
    try {
      drawer = await plotly();
    } catch (error) {
      setText(told, `There is no picture: ${error.message}.`);
      return;
    }
    const { data, layout: more, words } = latest();
    const now = JSON.stringify([data, more, colour("ink")]);
    if (now === written) return;
    written = now;
    setText(told, data.length ? "" : words);
    told.hidden = data.length > 0;
    place.hidden = !data.length;
    setAttribute(place, "aria-label", `${title}: ${words}`);
    if (data.length) await drawer.react(place, data, layout(height, more), { displayModeBar: false });
  }

  // Also of a figure that was hidden while the window changed, which plotly itself does not see.
  new ResizeObserver(() => {
    if (written && place.clientWidth) window.Plotly?.Plots.resize(place);
  }).observe(place);

  new IntersectionObserver((entries) => {
    seen = entries.some((entry) => entry.isIntersecting);
    paint();
  }, { rootMargin: "200px" }).observe(figure);  // not the place, which is hidden while there is nothing
  return {
    draw(make) { latest = make; paint(); },
    paint,
    title(text, explained) { setText(heading, text); setText(caption, explained); },
  };
}
