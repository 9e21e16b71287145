/* Numbers as text, digit for digit as fimi.report.words and fimi.energy.joules write them.
 *
 * fixed, general   Python's .1f and .3g: exact decimals, half to even; JavaScript rounds half up
 * joules …         numbers with their unit; MISSING where there is none: missing is never zero
 * kindTitle        what a mark of a kind says in full
 *
 * tests/monitor/browser compares them with Python's on many values. */

export const MISSING = "–";

/** Decimal digits, rounded half to even to the first `count`; returns them and a carry. */
function rounded(digits, count) {
  const kept = digits.slice(0, count) || "0";
  const rest = digits.slice(count);
  const half = "5".padEnd(rest.length, "0");
  const odd = Number(kept[kept.length - 1]) % 2 === 1;
  if (rest === "" || rest < half || (rest === half && !odd)) return kept;
  return (BigInt(kept) + 1n).toString().padStart(kept.length, "0");
}

const signOf = (value) => (value < 0 || Object.is(value, -0) ? "-" : "");

/** f"{value:.{places}f}" */
export function fixed(value, places) {
  const [whole, part] = Math.abs(value).toFixed(100).split(".");
  const digits = rounded(whole + part, whole.length + places);
  const cut = digits.length - places;
  const text = places ? `${digits.slice(0, cut)}.${digits.slice(cut)}` : digits;
  return signOf(value) + text;
}

/** f"{value:.{count}g}", or with `zeros` f"{value:#.{count}g}".rstrip(".") */
export function general(value, count, zeros = false) {
  if (value === 0) return signOf(value) + (zeros && count > 1 ? `0.${"0".repeat(count - 1)}` : "0");
  const [mantissa, power] = Math.abs(value).toExponential(100).split("e");
  let digits = rounded(mantissa.replace(".", ""), count);
  let exponent = Number(power);
  if (digits.length > count) {
    digits = digits.slice(0, count);
    exponent += 1;
  }
  const trim = (text) => (zeros || !text.includes(".") ? text : text.replace(/0+$/, "")).replace(/\.$/, "");
  if (exponent < -4 || exponent >= count) {
    const shown = trim(`${digits[0]}.${digits.slice(1)}`);
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${signOf(value)}${shown}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  const padded = exponent < 0 ? "0".repeat(-exponent) + digits : digits;
  const point = Math.max(exponent, 0) + 1;
  return signOf(value) + trim(`${padded.slice(0, point)}.${padded.slice(point)}`);
}

const known = (value) => value !== undefined && value !== null && Number.isFinite(value);

function formatJoules(value) {
  if (value === 0) return "0 J";
  const units = [[1e9, "GJ"], [1e6, "MJ"], [1e3, "kJ"], [1, "J"], [1e-3, "mJ"]];
  const [scale, unit] = units.find(([least]) => Math.abs(value) >= least * 0.9995) ?? [1e-6, "µJ"];
  return `${general(value / scale, 3, true)} ${unit}`;
}

/** 12.3 J */
export function joules(value) {
  return known(value) ? formatJoules(Math.abs(value) >= 1e-9 ? value : 0) : MISSING;
}

/** ± 0.41 J: one standard deviation, in the unit of its energy, as fimi.report.words.plus_minus. */
export function deviation(energy) {
  if (!energy?.uncertainty_j) return "";
  const largest = Math.max(Math.abs(energy.value_j), energy.uncertainty_j);
  const units = [[1e6, "MJ"], [1e3, "kJ"], [1, "J"], [1e-3, "mJ"]];
  const [scale, unit] = units.find(([least]) => largest >= least * 0.9995) ?? [1e-6, "µJ"];
  return `± ${general(energy.uncertainty_j / scale, 2)} ${unit}`;
}

/** 93.1 % of a share between 0 and 1 */
export function percent(share, digits = 1) {
  return known(share) ? `${fixed(100 * share, digits)} %` : MISSING;
}

/** +3.1 % */
export function signedPercent(value) {
  if (!known(value)) return MISSING;
  const text = fixed(value, 1);
  return `${text.startsWith("-") ? text.replace("-", "−") : `+${text}`} %`;
}

/** 0.123 */
export function crossEntropy(value) {
  return known(value) ? fixed(value, 3) : "not finite";
}

function scaled(value, unit) {
  if (!known(value)) return MISSING;
  for (const [scale, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= scale * 0.9995) return `${general(value / scale, 3, true)} ${prefix}${unit}`;
  }
  return `${general(value, 3)} ${unit}`;
}

/** 1.80 GHz */
export const hertz = (value) => scaled(value, "Hz");

/** 1.25 Mbit/s */
export const bitsPerSecond = (value) => scaled(value, "bit/s");

function halfToEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

/** 1.23 ms, 3.21 s, 4 min 05 s, 2 h 07 min */
export function seconds(value) {
  if (!known(value)) return MISSING;
  if (Math.abs(value) < 1e-6) return "0 s";
  if (value >= 99.95) {
    const all = halfToEven(value);
    const two = (number) => String(number).padStart(2, "0");
    const minutes = Math.floor(all / 60);
    const hours = Math.floor(minutes / 60);
    return hours ? `${hours} h ${two(minutes % 60)} min` : `${minutes} min ${two(all % 60)} s`;
  }
  const [scale, unit] = value >= 0.01 ? [1, "s"] : [1e3, "ms"];
  return `${general(scale * value, 3, true)} ${unit}`;
}

/** 3.43 W */
export function watts(value) {
  if (!known(value)) return MISSING;
  return value !== 0 && Math.abs(value) < 0.9995 ? `${general(1e3 * value, 3, true)} mW` : `${general(value, 3, true)} W`;
}

/** 47.5 °C */
export const celsius = (value) => (known(value) ? `${fixed(value, 1)} °C` : MISSING);

/** now, 12 s, 4 min 05 s */
export function ago(value) {
  if (!known(value)) return MISSING;
  return value < 2.5 ? "now" : value < 100 ? `${Math.round(value)} s ago` : `${seconds(value)} ago`;
}

/** ≈ 29 min: an estimate has no digits to spare. */
export function roughly(value) {
  if (!known(value)) return MISSING;
  if (value < 90) return `≈ ${Math.round(value)} s`;
  const minutes = Math.round(value / 60);
  return minutes < 90 ? `≈ ${minutes} min` : `≈ ${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** 14:03:21 on the clock of this browser */
export const clock = (unix_s) => new Date(1000 * unix_s).toLocaleTimeString([], { hour12: false });

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** Short words for marks in tables. */
export const SHORT = { measured: "mea", modelled: "mod", emulated: "emu", mixed: "mix" };

/** What a mark says in full: emulated, board */
export const kindWords = (kind, scope) => [kind, scope].filter(Boolean).join(", ");

/** The same with uncertainty and source, for whoever points at it. */
export function kindTitle(energy) {
  return [kindWords(energy.kind, energy.scope), deviation(energy), energy.source && `from ${energy.source}`]
    .filter(Boolean).join("; ");
}
