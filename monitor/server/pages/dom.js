/* Small tools for elements. Text from devices goes through `textContent` and attributes only, so
 * that it stays text; nothing on this page is built from a string of HTML.
 *
 * el         an element with attributes and children
 * setText …  change an element only where it differs, so that nothing is laid out anew for nothing
 * Kind       the mark of a number's kind: a shape, a word, and the rest for whoever asks
 * Amount     joules or watts with that mark
 * natural    compares names with numbers in them */

import { MISSING, SHORT, joules, kindTitle, kindWords } from "./words.js";

const SHAPES = { measured: "●", modelled: "◇", emulated: "○", mixed: "◐" };

/** An element; attributes with the value `true` are set empty, with `false` or null left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((each) => each !== null && each !== undefined));
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

export function setAttribute(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/** The mark of a kind; `short`: three letters, the words in full for screen readers. */
export class Kind {
  constructor(short = false) {
    this.short = short;
    this.seen = el("span", { "aria-hidden": "true" });
    this.said = el("span", { class: "unseen" });
    this.node = el("span", { class: "kind", hidden: true }, this.seen, this.said);
  }

  /** Nothing is shown where there is no energy. */
  set(energy) {
    setHidden(this.node, !energy);
    if (!energy) return;
    const words = kindWords(energy.kind, energy.scope);
    setText(this.seen, `${SHAPES[energy.kind] ?? "?"} ${this.short ? SHORT[energy.kind] ?? energy.kind : words}`);
    setText(this.said, ` ${words}`);
    setClass(this.node, `kind kind-${energy.kind}`);
    setAttribute(this.node, "title", kindTitle(energy));
  }
}

/** A number with the mark of its kind. */
export class Amount {
  constructor({ short = false, write = joules } = {}) {
    this.write = write;
    this.number = document.createTextNode(MISSING);
    this.kind = new Kind(short);
    this.node = el("span", { class: "amount" }, this.number, " ", this.kind.node);
  }

  /** `energy` has `value_j` and what its mark says; undefined: not known. */
  set(energy) {
    const text = energy ? this.write(energy.value_j) : MISSING;
    if (this.number.data !== text) this.number.data = text;
    this.kind.set(energy);
  }
}

/** What a plan says: a formula gave it. */
export const predicted = (value_j) => (value_j === undefined || value_j === null
  ? undefined : { value_j, kind: "modelled", source: "the cost model under the plan" });

const collator = new Intl.Collator("en", { numeric: true });
export const natural = (one, other) => collator.compare(one, other);
