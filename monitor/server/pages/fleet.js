/* The fleet as a table: troubles first, sorted by any column, filtered by text.
 *
 * Only the rows that can be seen are in the document; empty rows above and below hold the place of
 * the others, and `aria-rowcount` and `aria-rowindex` tell what is not there. A cell is written only
 * where its text differs. One row is the current one: arrows move it, Enter opens its device. */

import { Kind, el, natural, setAttribute, setClass, setHidden, setText } from "./dom.js";
import { COLUMNS, searched } from "./columns.js";
import { isProblem } from "./states.js";
import { plural } from "./words.js";

const ROW_PX = 33;
const MARGIN_ROWS = 6;

class Cell {
  constructor(column) {
    this.text = document.createTextNode("");
    this.node = el("td", { class: this.base = `${column.text ? "text " : ""}level-${column.level}` });
    this.kind = null;
    this.link = null;
    if (column.key === "device") this.node.append(this.link = el("a", { tabindex: "-1" }, this.text));
    else this.node.append(this.text);
  }

  set(shown) {
    const { text, tone, energy, href, title } = typeof shown === "string" ? { text: shown } : shown;
    if (this.text.data !== text) this.text.data = text;
    if (energy && !this.kind) this.node.append(" ", (this.kind = new Kind(true)).node);
    this.kind?.set(energy);
    setClass(this.node, tone ? `${this.base} tone ${tone}` : this.base);
    if (href) setAttribute(this.link, "href", href);
    if (title !== undefined) setAttribute(this.node, "title", title);
  }
}

class Row {
  constructor() {
    this.cells = COLUMNS.map((column) => new Cell(column));
    this.node = el("tr", {}, ...this.cells.map((cell) => cell.node));
    this.link = this.cells[0].link;
  }

  set(id, device, index, now) {
    this.node.dataset.device = id;
    setAttribute(this.node, "aria-rowindex", String(index + 3));
    setClass(this.node, isProblem(device) ? `problem ${device.state}` : "");
    COLUMNS.forEach((column, k) => this.cells[k].set(column.show(device, id, now)));
  }
}

export function fleet(run) {
  const section = document.getElementById("fleet");
  const count = el("span", { class: "count", role: "status" });
  const filter = el("input", { type: "search", id: "filter", placeholder: "name, board, state …", autocomplete: "off", spellcheck: "false" });
  const problems = el("input", { type: "checkbox", id: "only-problems" });
  const { head, headings, groups } = heading();
  const above = el("tr", { class: "space", "aria-hidden": "true" }, el("td", { colspan: COLUMNS.length }));
  const below = el("tr", { class: "space", "aria-hidden": "true" }, el("td", { colspan: COLUMNS.length }));
  const body = el("tbody", {}, above, below);
  const table = el("table", { "aria-labelledby": "fleet-title" },
    el("colgroup", {}, ...COLUMNS.map((c) => el("col", { class: `level-${c.level}`, style: `width:${c.width}px` }))), head, body);
  const scroll = el("div", { class: "scroll rows", tabindex: "0", role: "region", "aria-label": "Devices, arrows move" }, table);
  section.append(
    el("div", { class: "bar" }, el("h2", { id: "fleet-title" }, "Devices"), count,
      el("label", {}, "Filter ", filter), el("label", { class: "check" }, problems, " only those that need somebody")),
    scroll,
  );

  const rows = new Map();
  let order = [];
  let places = new Map();
  let sorting = { key: "state", down: false };
  let current = null;
  let snapshot = null;

  function heading() {
    const made = {};
    const groups = [];
    const button = (column) => {
      const mark = el("span", { "aria-hidden": "true", class: "arrow" });
      const th = el("th", { scope: "col", class: `${column.text ? "text " : ""}level-${column.level}` },
        el("button", { type: "button", onclick: () => sortBy(column.key) }, column.head, mark));
      made[column.key] = { th, mark };
      return th;
    };
    const first = [];
    const second = [];
    for (let k = 0; k < COLUMNS.length;) {
      const column = COLUMNS[k];
      if (!column.group) {
        const th = button(column);
        th.rowSpan = 2;
        first.push(th);
        k += 1;
        continue;
      }
      const own = COLUMNS.filter((each) => each.group === column.group);
      const th = el("th", { scope: "colgroup", class: "group" }, column.group);
      groups.push({ th, own });
      first.push(th);
      second.push(...own.map(button));
      k += own.length;
    }
    const head = el("thead", {}, el("tr", { "aria-rowindex": "1" }, ...first), el("tr", { "aria-rowindex": "2" }, ...second));
    return { head, headings: made, groups };
  }

  function sortBy(key) {
    sorting = sorting.key === key ? { key, down: !sorting.down } : { key, down: false };
    scroll.scrollTop = 0;
    draw();
  }

  /** Show the columns for which there is room: a table of a fixed layout counts every one. */
  function fit() {
    const width = scroll.clientWidth || 1400;
    const level = matchMedia("print").matches ? 2 : width < 640 ? 1 : width < 1180 ? 2 : 3;
    if (table.dataset.level === String(level)) return;
    table.dataset.level = level;
    const there = (columns) => columns.filter((column) => column.level <= level).length;
    for (const { th, own } of groups) {
      th.colSpan = Math.max(1, there(own));
      setHidden(th, there(own) === 0);
    }
    for (const space of [above, below]) space.firstChild.colSpan = there(COLUMNS);
  }

  /** The place of each name among all of them: comparing names by their numbers takes long. */
  function known(devices) {
    const ids = Object.keys(devices);
    if (ids.length !== places.size || !ids.every((id) => places.has(id))) {
      places = new Map(ids.sort(natural).map((id, place) => [id, place]));
    }
    return places;
  }

  /** Ids in order: what is not known comes last, whichever way. */
  function arrange(devices) {
    const place = known(devices);
    const byName = (a, b) => place.get(a) - place.get(b);
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const column = COLUMNS.find((each) => each.key === sorting.key);
    const found = [];
    for (const [id, device] of Object.entries(devices)) {
      if (problems.checked && !isProblem(device)) continue;
      if (words.length) {
        const text = searched(device, id);
        if (!words.every((word) => text.includes(word))) continue;
      }
      found.push([id, column.sort(device, id)]);
    }
    const way = sorting.down ? -1 : 1;
    found.sort(([a, one], [b, other]) => {
      if (one === undefined || other === undefined) return (one === undefined) - (other === undefined) || byName(a, b);
      const by = column.key === "device" ? byName(a, b) : typeof one === "string" ? natural(one, other) : one - other;
      return way * by || byName(a, b);
    });
    return found.map(([id]) => id);
  }

  function draw() {
    if (!snapshot || section.closest("[hidden]")) return;
    const { devices } = snapshot;
    order = arrange(devices);
    const all = Object.keys(devices).length;
    setText(count, order.length === all ? plural(all, "device") : `${order.length} of ${plural(all, "device")}`);
    setAttribute(table, "aria-rowcount", String(order.length + 2));
    for (const [key, { th, mark }] of Object.entries(headings)) {
      const on = key === sorting.key;
      setAttribute(th, "aria-sort", on ? (sorting.down ? "descending" : "ascending") : null);
      setText(mark, on ? (sorting.down ? " ▼" : " ▲") : "");
    }
    if (!order.includes(current)) current = order[0] ?? null;
    fit();
    place();
    if (rows.size && !performance.getEntriesByName("rows").length) performance.mark("rows");  // the page can be used
  }

  /** Put the rows that can be seen in their places. */
  function place() {
    const printing = matchMedia("print").matches;
    const seen = Math.ceil((scroll.clientHeight || 600) / ROW_PX);
    const from = printing ? 0 : Math.max(0, Math.floor(scroll.scrollTop / ROW_PX) - MARGIN_ROWS);
    const to = printing ? order.length : Math.min(order.length, from + seen + 2 * MARGIN_ROWS);
    const wanted = new Set(order.slice(from, to));
    for (const [id, row] of rows) {
      if (wanted.has(id)) continue;
      if (row.node.contains(document.activeElement)) scroll.focus({ preventScroll: true });
      row.node.remove();
      rows.delete(id);
    }
    setAttribute(above.firstChild, "style", `height:${from * ROW_PX}px`);
    setHidden(above, from === 0);
    setAttribute(below.firstChild, "style", `height:${(order.length - to) * ROW_PX}px`);
    setHidden(below, to === order.length);
    let next = above.nextSibling;
    for (let k = from; k < to; k += 1) {
      const id = order[k];
      let row = rows.get(id);
      if (!row) rows.set(id, row = new Row());
      row.set(id, snapshot.devices[id], k, snapshot.unix_s);
      setAttribute(row.link, "tabindex", id === current ? "0" : "-1");
      if (row.node === next) next = next.nextSibling;
      else body.insertBefore(row.node, next);
    }
  }

  /** Make a row the current one, bring it into sight and give it the focus. */
  function go(index) {
    if (!order.length) return;
    const k = Math.max(0, Math.min(order.length - 1, index));
    current = order[k];
    const top = k * ROW_PX;
    const room = scroll.clientHeight - head.offsetHeight - ROW_PX;
    if (top < scroll.scrollTop) scroll.scrollTop = top;
    else if (top > scroll.scrollTop + room) scroll.scrollTop = top - room;
    place();
    rows.get(current).link.focus({ preventScroll: true });
  }

  scroll.addEventListener("keydown", (event) => {
    if (event.target.closest("thead")) return;
    const k = order.indexOf(current);
    const page = Math.max(1, Math.floor(scroll.clientHeight / ROW_PX) - 3);
    const focused = rows.get(current)?.link === document.activeElement;
    const steps = { ArrowDown: focused ? k + 1 : k, ArrowUp: k - 1, Home: 0, End: order.length - 1, PageDown: k + page, PageUp: k - page };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    go(steps[event.key]);
  });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-device]");
    if (row && !event.target.closest("a") && getSelection().isCollapsed) location.hash = `#device/${encodeURIComponent(row.dataset.device)}`;
  });
  let scrolled = false;
  scroll.addEventListener("scroll", () => {
    if (scrolled) return;
    scrolled = true;
    requestAnimationFrame(() => { scrolled = false; if (snapshot) place(); });
  }, { passive: true });
  addEventListener("resize", () => snapshot && draw());
  addEventListener("beforeprint", () => snapshot && draw());
  addEventListener("afterprint", () => snapshot && draw());
  filter.addEventListener("input", () => { scroll.scrollTop = 0; draw(); });
  problems.addEventListener("change", draw);
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.matches("input, select, textarea") || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    if (location.hash) location.hash = "";
    filter.focus();
    filter.select();
  });
  filter.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); go(0); }
    if (event.key === "Escape") { filter.value = ""; draw(); }
  });

  run.show(["devices", "unix_s"], (now) => { snapshot = now; draw(); });
  return { draw };
}
