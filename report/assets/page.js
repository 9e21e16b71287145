"use strict";
(async () => {
  const nodes = [...document.querySelectorAll(".plot")];
  if (!window.DecompressionStream) {
    document.getElementById("too-old").hidden = false;
    for (const node of nodes) node.hidden = true;
    return;
  }
  async function unpacked(id) {
    const letters = atob(document.getElementById(id).textContent);
    const packed = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }
  const [library, json] = await Promise.all([unpacked("library"), unpacked("figures")]);
  const script = document.createElement("script");
  script.textContent = library;  // its digest stands in the policy of this page
  document.head.append(script);
  const { colours, figures } = JSON.parse(json);

  const NARROW = 620;
  const PAPER = 640;  // what fits between the margins of A4 and of letter paper
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const light = document.createElement("div");
  light.className = "light";
  light.hidden = true;
  document.body.append(light);
  const colour = (name, from) => getComputedStyle(from).getPropertyValue(`--${name}`).trim();
  const FONT = "'Liberation Sans', Arial, Helvetica, sans-serif";

  /* The look of a figure: "page" as the page is now, "print" light on white. */
  function look(kind) {
    const from = kind === "print" ? light : document.documentElement;
    const of = (name) => colour(name, from);
    const family = kind === "print" ? FONT : getComputedStyle(document.body).fontFamily;
    const axis = {
      gridcolor: of("grid"), zerolinecolor: of("edge"), linecolor: of("edge"),
      tickcolor: "rgba(0,0,0,0)", zerolinewidth: 1, gridwidth: 1, ticks: "outside", ticklen: 5,
      title: { font: { color: of("soft"), size: 13 } },
    };
    const ground = kind === "print" ? "#ffffff" : "rgba(0,0,0,0)";
    const layout = {
      font: { family, size: 12.5, color: of("ink") },
      paper_bgcolor: ground, plot_bgcolor: ground, xaxis: axis, yaxis: axis,
      hoverlabel: {
        bgcolor: of("card"), bordercolor: of("edge"), align: "left",
        font: { color: of("ink"), size: 13, family },
      },
    };
    return { layout, other: new Map(colours.map((name) => [colour(name, light), of(name)])) };
  }

  /* A figure's parts with other colours; long lists of values are shared, not copied. */
  const VALUES = new Set(["x", "y", "z", "text", "base", "customdata", "ticktext", "tickvals"]);
  function coloured(part, other) {
    if (typeof part === "string") return other.get(part.toLowerCase()) ?? part;
    if (Array.isArray(part)) return part.map((each) => coloured(each, other));
    if (part === null || typeof part !== "object") return part;
    return Object.fromEntries(Object.entries(part).map(
      ([key, value]) => [key, VALUES.has(key) ? value : coloured(value, other)]));
  }

  function drawing(name, width, kind) {
    const figure = figures[name];
    const { layout: template, other } = look(kind);
    const layout = coloured(structuredClone(figure.layout), other);
    layout.template = { layout: template, data: figure.layout.template.data };
    if (width < NARROW) {
      for (const [path, value] of Object.entries(figure.narrow)) {
        const keys = path.split(".");
        const last = keys.pop();
        let place = layout;
        for (const key of keys) place = place[key] ??= {};
        place[last] = value;
      }
      for (const [key, axis] of Object.entries(layout)) {  // long titles in two lines
        const title = key.startsWith("xaxis") ? axis.title?.text : undefined;
        if (title?.length > 40) axis.title.text = title.replace(", ", ",<br>");
      }
    }
    return { data: coloured(figure.data, other), layout };
  }

  const touch = window.matchMedia("(pointer: coarse)").matches;
  let kind = "page";
  function draw(node) {
    const paper = kind === "print";
    const { data, layout } = drawing(node.id, paper ? PAPER : node.clientWidth, kind);
    if (paper) layout.width = PAPER;  // the page is as wide as its window while this is drawn
    if (touch) layout.dragmode = false;
    return Plotly.react(node, data, layout, { responsive: !paper, displayModeBar: false });
  }

  /* Always light, whatever the page is: it goes into papers. */
  const saved = (node) => {
    const { data, layout } = drawing(node.id, node.clientWidth, "print");
    return { data, layout: { ...layout, width: node.clientWidth, height: node.clientHeight } };
  };
  for (const node of nodes) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "SVG";
    button.title = "Save this picture, light on white";
    button.setAttribute("aria-label",
      `Save as SVG: ${node.parentElement.querySelector("h3").textContent}`);
    button.addEventListener("click", () => Plotly.downloadImage(saved(node), {
      format: "svg", filename: node.id, width: node.clientWidth, height: node.clientHeight,
    }));
    node.parentElement.append(button);
  }

  /* What is on the screen is drawn first, the rest piece by piece, so that reading can begin. */
  const wait = () => new Promise((then) => setTimeout(then, 0));
  let current = 0;
  async function drawAll() {
    const mine = ++current;
    const first = nodes.filter((node) => {
      const { top, bottom } = node.getBoundingClientRect();
      return bottom > 0 && top < window.innerHeight;
    });
    for (const node of new Set([...first, ...nodes])) {
      if (mine !== current) return;
      await draw(node);
      await wait();
    }
    document.documentElement.dataset.pictures = "drawn";
  }
  dark.addEventListener("change", drawAll);
  for (const [event, then] of [["beforeprint", "print"], ["afterprint", "page"]]) {
    window.addEventListener(event, () => { kind = then; ++current; nodes.forEach(draw); });
  }
  let wasNarrow = nodes.map((node) => node.clientWidth < NARROW);
  window.addEventListener("resize", () => nodes.forEach((node, i) => {
    const narrow = node.clientWidth < NARROW;
    if (narrow !== wasNarrow[i]) { wasNarrow[i] = narrow; draw(node); }
  }));
  await drawAll();
})();
