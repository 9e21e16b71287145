/* The connection to the feed, which comes back by itself.
 *
 * `connect(run, told)` keeps `run` up to date and tells what the connection is like: `{ since }` is
 * the UNIX time in ms since when nothing was heard, or null. A feed that says nothing for longer
 * than a few snapshots (a tunnel that hangs, a laptop that slept) counts as gone and is opened
 * again; the browser alone would wait for ever. Whoever was away gets a whole snapshot. */

const QUIET_MS = 5000;
const AGAIN_MS = 1000;

export function connect(run, told) {
  let source = null;
  let heard = Date.now();
  let since = null;
  let again = null;

  const lost = () => {
    source?.close();
    source = null;
    if (since === null) {
      since = heard;
      told({ since });
    }
    clearTimeout(again);
    again = setTimeout(open, AGAIN_MS);
  };

  const take = (what) => (event) => {
    heard = Date.now();
    what(JSON.parse(event.data));
    if (since !== null) {
      since = null;
      told({ since, again: true });
    }
  };

  function open() {
    source?.close();
    heard = since === null ? Date.now() : heard;
    const opened = Date.now();
    source = new EventSource("/feed");
    source.addEventListener("whole", take((snapshot) => run.whole(snapshot)));
    source.addEventListener("change", take((patch) => run.patch(patch)));
    source.addEventListener("error", lost);
    source.opened = opened;
  }

  setInterval(() => {
    if (source && Date.now() - Math.max(heard, source.opened) > QUIET_MS) lost();
  }, 1000);
  addEventListener("online", open);
  open();
}

/** Ask for the present snapshot: whether this browser may act stands only there. */
export async function ask() {
  const answer = await fetch("/snapshot", { cache: "no-store" });
  if (!answer.ok) throw new Error((await answer.json()).error ?? `status ${answer.status}`);
  return answer.json();
}
