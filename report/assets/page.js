"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const NARROW = 620;

  function template() {
    const axis = {
      gridcolor: colour("--grid"), zerolinecolor: colour("--faint"), linecolor: colour("--faint"),
      tickcolor: "rgba(0,0,0,0)", zerolinewidth: 1, gridwidth: 1, ticks: "outside", ticklen: 5,
      title: { font: { color: colour("--soft"), size: 13 } },
    };
    return { layout: {
      font: { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: colour("--ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
      hoverlabel: {
        bgcolor: colour("--card"), bordercolor: colour("--faint"), align: "left",
        font: { color: colour("--ink"), size: 13, family: getComputedStyle(document.body).fontFamily },
      },
    } };
  }

  function layoutFor(figure, width) {
    const layout = structuredClone(figure.layout);
    layout.template = { ...template(), data: figure.layout.template.data };
    if (width < NARROW) {
      for (const [path, value] of Object.entries(figure.narrow)) {
        const keys = path.split(".");
        const last = keys.pop();
        let place = layout;
        for (const key of keys) place = place[key] ??= {};
        place[last] = value;
      }
    }
    return layout;
  }

  const touch = window.matchMedia("(pointer: coarse)").matches;
  function draw(node) {
    const figure = figures[node.id];
    const layout = layoutFor(figure, node.clientWidth);
    if (touch) layout.dragmode = false;
    return Plotly.react(node, structuredClone(figure.data), layout, {
      responsive: true, displayModeBar: false,
    });
  }

  const nodes = [...document.querySelectorAll(".plot")];
  for (const node of nodes) {
    const button = document.createElement("button");
    button.textContent = "SVG";
    button.title = "Save this picture";
    button.addEventListener("click", () => Plotly.downloadImage(node, {
      format: "svg", filename: node.id, width: node.clientWidth, height: node.clientHeight,
    }));
    node.parentElement.append(button);
  }
  const redraw = () => nodes.forEach(draw);
  redraw();
  dark.addEventListener("change", redraw);
  let wasNarrow = nodes.map((node) => node.clientWidth < NARROW);
  window.addEventListener("resize", () => nodes.forEach((node, i) => {
    const narrow = node.clientWidth < NARROW;
    if (narrow !== wasNarrow[i]) { wasNarrow[i] = narrow; draw(node); }
  }));
})();
