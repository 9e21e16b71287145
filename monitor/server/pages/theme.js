/* Light or dark: as the system has it, or as somebody has chosen, which this browser remembers.
 *
 * The colours of darkness stand once, in tokens.css under `prefers-color-scheme`. A choice rewrites
 * the condition of that rule: always, or never. */

const KEY = "fimi-colours";
const SYSTEM = "(prefers-color-scheme: dark)";

function remembered() {
  try {
    return localStorage.getItem(KEY) ?? "auto";
  } catch {
    return "auto";  // a browser that keeps nothing
  }
}

function rules() {
  if (rules.found) return rules.found;
  rules.found = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules])
    .filter((rule) => rule instanceof CSSMediaRule && rule.media.mediaText.includes("prefers-color-scheme"))
    .map((rule) => ({ rule, own: rule.media.mediaText }));
  return rules.found;
}

/** Bind the choice to its list; `changed` is called when colours are others. */
export function theme(list, changed) {
  const apply = (choice) => {
    const medium = { light: "not all", dark: "screen" }[choice];
    for (const { rule, own } of rules()) rule.media.mediaText = medium ?? own;
    document.documentElement.style.colorScheme = choice === "auto" ? "" : choice;
    changed();
  };
  list.value = remembered();
  if (list.value !== "auto") apply(list.value);
  list.addEventListener("change", () => {
    try {
      localStorage.setItem(KEY, list.value);
    } catch { /* it holds for this page then */ }
    apply(list.value);
  });
  matchMedia(SYSTEM).addEventListener("change", changed);
}
