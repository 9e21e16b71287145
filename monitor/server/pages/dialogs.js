/* A question before something is done: a real dialog, so that focus stays in it and Esc leaves it. */

import { el, setHidden, setText } from "./dom.js";

/**
 * Ask, and do it if the answer is yes.
 *
 * `what` has `title`, `words` (what will happen), `yes` (the word on the button), `field` (an element
 * with a value, or none) and `act(value, say)`, which returns the last words; `say` shows words before.
 */
export function question({ title, words, yes, field = null, act, danger = false }) {
  const told = el("p", { role: "status", class: "answer" });
  const confirm = el("button", { type: "submit", class: danger ? "danger" : "first" }, yes);
  const cancel = el("button", { type: "button" }, "Cancel");
  const form = el("form", { method: "dialog" }, el("h2", { id: "question" }, title), ...[words].flat().map((each) => el("p", {}, each)),
    field, told, el("div", { class: "buttons" }, cancel, confirm));
  const dialog = el("dialog", { "aria-labelledby": "question" }, form);
  const back = document.activeElement;
  document.body.append(dialog);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { dialog.remove(); back?.focus(); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = form.querySelector("input, select");
    confirm.disabled = true;
    if (input) input.disabled = true;
    try {
      setText(told, "asked …");
      setText(told, await act(input?.value, (text) => setText(told, text)));
      told.classList.remove("bad");
      setHidden(confirm, true);
    } catch (error) {
      setText(told, error.message);
      told.classList.add("bad");
      confirm.disabled = false;
      if (input) input.disabled = false;
    }
    setText(cancel, "Close");
    cancel.focus();
  });
  dialog.showModal();
  (form.querySelector("input, select") ?? cancel).focus();
}
