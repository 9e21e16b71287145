/* The dashboard: plain modules, no build step.
 *
 * words      numbers as text, as Python writes them        dom        small tools for elements
 * feed       the connection, which comes back by itself    state      the run, and when to draw it
 * headline   what is read from across the room             states     words and shapes of states
 * fleet      the table of devices, by columns              rounds     accuracy and joules by round
 * device     a device's own view, with trace: a round      lists      events, generator
 * study      an experiment in place of a run
 * controls   what may be asked, with dialogs               alerts     problems in a few words
 * charts     pictures by plotly, loaded late               theme      light and dark */

import { alerts, connection } from "./alerts.js";
import { controls } from "./controls.js";
import { device } from "./device.js";
import { question } from "./dialogs.js";
import { Kind, el } from "./dom.js";
import { ask, connect } from "./feed.js";
import { fleet } from "./fleet.js";
import { headline } from "./headline.js";
import { events, generator } from "./lists.js";
import { rounds } from "./rounds.js";
import { Run } from "./state.js";
import { study } from "./study.js";
import { theme } from "./theme.js";

if (new URLSearchParams(location.search).has("key")) {
  history.replaceState(null, "", location.pathname + location.hash); // the browser has its cookie now
}

const run = new Run();
headline(run);
const acting = controls(run, question);
study(run);
const pictures = rounds(run);
fleet(run);
events(run);
generator(run);
const own = device(run, acting);
alerts(run);
theme(document.getElementById("theme"), () => { pictures.paint(); own.paint(); });
legend();

const told = connection(run);
const mayAct = () => ask().then(({ may_act }) => {
  run.mayAct = may_act;
  run.redraw();
}).catch(() => { /* the feed says that nobody is there */ });
connect(run, (news) => {
  told(news);
  if (news.again) mayAct();  // perhaps another run now, with another key
});
mayAct();
own.open();

/** What the marks of numbers mean. */
function legend() {
  const words = {
    measured: "a physical meter read it", modelled: "a formula gave it: every prediction is", emulated: "no physical device was involved", mixed: "a sum of several kinds",
  };
  const place = document.getElementById("marks");
  place.append("Marks of numbers: ");
  for (const [kind, text] of Object.entries(words)) {
    const mark = new Kind(true);
    mark.set({ kind });
    place.append(el("span", { class: "legend" }, mark.node, ` ${kind}, ${text} `));
  }
}
