// The status page: shows what the feed tells, and asks for the exposure that is shown.
// Everything that comes from the site is set as text, never as markup.

const STATES = {
  expected: ["", "no object is announced yet"], queued: ["▮", "announced, waits for a worker"],
  present: ["▮▮", "its header is read"], ingested: ["✓", "in the Butler"], waiting: ["‖", "waits, or is to be tried again"],
  failed: ["✕", "dead letter"], absent: ["", "the exposure has closed without it"],
};
const SVG = "http://www.w3.org/2000/svg";
const STALE = 5000;
const $ = (id) => document.getElementById(id);

const geometry = new Map();
let site = null, heard = Date.now(), exposure = null, drawn = null;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child ?? ""))));
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function span(seconds) {
  if (seconds >= 7200) return `${Math.round(seconds / 3600)} h`;
  return seconds >= 120 ? `${Math.round(seconds / 60)} min` : `${Math.max(0, Math.round(seconds))} s`;
}

const utc = (seconds) => (seconds ? new Date(seconds * 1000).toISOString().slice(11, 19) : "not known");

async function get(path) {
  const response = await fetch(path, { cache: "no-store" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

// The URL names the exposure and the detector, so that it can be sent to a colleague.
const named = () => {
  const [obsId, detector] = decodeURIComponent(location.hash.slice(1)).split("/");
  return { obsId, detector };
};
const newest = () => site?.exposures.at(-1)?.obs_id;
const shown = () => named().obsId || newest();
const choose = (obsId, detector) => { location.hash = detector ? `${obsId}/${detector}` : obsId; };

function table(head, rows, empty) {
  if (!rows.length) return element("p", {}, empty);
  const cell = (kind) => (value) => element(kind, typeof value === "number" ? { class: "n" } : {}, value);
  const body = element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td")))));
  const numbers = rows[0].map((value) => typeof value === "number");
  const titles = head.map((text, i) => element("th", { scope: "col", ...(numbers[i] && { class: "n" }) }, text));
  return element("table", {}, element("thead", {}, element("tr", {}, ...titles)), body);
}

function showSite() {
  $("verdict").dataset.level = site.summary.level;
  if ($("sentence").textContent !== site.summary.text) $("sentence").textContent = site.summary.text;
  $("lamps").replaceChildren(...site.dependencies.map((one) => element("li", { "data-up": one.is_up },
    one.is_up ? `● ${one.name} up` : `▲ ${one.name} DOWN${one.since ? ` since ${utc(one.since)}` : ""}: ${one.cause}`)));
  $("queues").replaceChildren(table(["bucket", "queued", "oldest", "in work", "waiting", "dead", "visits owed"],
    Object.entries(site.queues).map(([name, q]) => [site.paused[name] ? `${name} (paused by ${site.paused[name]})` : name,
      q.depth, q.oldest === null ? "–" : span(q.oldest), q.working, q.waiting, q.dead, q.owed]), "No queue is known."));
  $("dead").replaceChildren(table(["number", "reason", "bucket", "to list them"],
    site.dead.map((one) => [one.number, one.reason, one.bucket,
      element("code", {}, `autoingest queue dead --reason ${one.reason}`)]), "No file has failed."));
  $("processes").replaceChildren(table(["host", "version", "up", "heard", "role", "does"],
    site.processes.flatMap((one) => Object.entries(one.roles).map(([name, role]) => [one.host, one.version,
      span(site.time - one.since), one.alive ? `${span(one.age)} ago` : `SILENT for ${span(one.age)}`, name,
      role.doing || "waits for work"])), "No process is alive."));
  showStrip();
}

function delay(one) {
  const { last_put: put, last_ingested: done } = one.times;
  return put && done ? Math.max(0, (Date.parse(done) - Date.parse(put)) / 1000) : null;
}

function showStrip() {
  const focused = document.activeElement?.dataset?.obsId;
  const items = site.exposures.slice(-60);
  $("strip").replaceChildren(...items.map((one) => {
    const seconds = delay(one);
    const text = `${one.obs_id}: ${one.state}, ${seconds === null ? "no time is known" : `${seconds.toFixed(1)} s`}`;
    const made = element("button", { type: "button", title: text, "aria-label": text, class: one.state,
      "aria-pressed": one.obs_id === shown(), "data-obs-id": one.obs_id });
    made.style.height = `${Math.min(100, 8 + 30 * Math.log10(1 + (seconds ?? 0)))}%`;
    made.addEventListener("click", () => choose(one.obs_id));
    return made;
  }));
  if (!items.length) $("strip").append(element("p", {}, "No exposure of this night is known yet."));
  if (focused) $("strip").querySelector(`[data-obs-id="${CSS.escape(focused)}"]`)?.focus();
}

function drawPlane(instrument, detectors) {
  const edge = Math.max(...detectors.map((d) => Math.max(Math.abs(d.x), Math.abs(d.y)) + Math.max(d.width, d.height) / 2)) * 1.02;
  const scale = 1000 / edge;
  const svg = shape("svg", { viewBox: "-1000 -1000 2000 2000", role: "group", "aria-label": `Focal plane of ${instrument}` });
  const defs = shape("defs", {});
  const hatch = shape("pattern", { id: "hatch", width: 12, height: 12, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  hatch.append(shape("line", { x1: 0, y1: 0, x2: 0, y2: 12, stroke: "#808080", "stroke-width": 5 }));
  defs.append(hatch);
  svg.append(defs);
  const rafts = new Map();
  for (const one of detectors) {
    const quarter = Math.round(one.yaw / 90) % 2 !== 0;
    const [w, h] = (quarter ? [one.height, one.width] : [one.width, one.height]).map((size) => size * scale);
    const [x, y] = [one.x * scale, -one.y * scale];
    const made = shape("rect", { x: x - w / 2, y: y - h / 2, width: w, height: h, class: "d s-expected", tabindex: -1,
      role: "button", "data-name": one.name });
    made.addEventListener("click", () => choose(shown(), one.name));
    const mark = shape("text", { x, y, class: "mark", "aria-hidden": "true" });
    svg.append(made, mark);
    if (one.raft) {
      const [l, t, r, b] = rafts.get(one.raft) ?? [x, y, x, y];
      rafts.set(one.raft, [Math.min(l, x - w / 2), Math.min(t, y - h / 2), Math.max(r, x + w / 2), Math.max(b, y + h / 2)]);
    }
  }
  for (const [l, t, r, b] of rafts.values()) svg.append(shape("rect", { x: l - 2, y: t - 2, width: r - l + 4, height: b - t + 4, class: "raft", "pointer-events": "none" }));
  svg.addEventListener("keydown", moveFocus);
  $("plane").replaceChildren(svg);
  svg.querySelector(".d").setAttribute("tabindex", 0);
  drawn = instrument;
}

// Arrow keys go to the nearest detector in their direction; Enter opens it.
function moveFocus(event) {
  const from = event.target;
  if (!from.dataset?.name) return;
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(shown(), from.dataset.name); return; }
  const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way) return;
  event.preventDefault();
  const middle = (one) => { const b = one.getBBox(); return [b.x + b.width / 2, b.y + b.height / 2]; };
  const [x, y] = middle(from);
  let best = null, least = Infinity;
  for (const one of $("plane").querySelectorAll(".d")) {
    const [dx, dy] = [middle(one)[0] - x, middle(one)[1] - y];
    const along = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1] + dy * way[0]);
    if (along > 1 && along + 3 * aside < least) { best = one; least = along + 3 * aside; }
  }
  if (!best) return;
  from.setAttribute("tabindex", -1);
  best.setAttribute("tabindex", 0);
  best.focus();
}

async function showExposure() {
  const obsId = shown();
  $("follow").hidden = !named().obsId;
  if (!obsId) { $("facts-list").replaceChildren(element("dt", {}, "No exposure"), element("dd", {}, "of this night is known yet.")); return; }
  try {
    exposure = await get(`api/exposures/${encodeURIComponent(obsId)}`);
  } catch {
    $("facts-list").replaceChildren(element("dt", {}, obsId), element("dd", {}, "Nothing is known of it, or no longer."));
    return;
  }
  if (obsId !== shown()) return;
  if (!geometry.has(exposure.instrument)) geometry.set(exposure.instrument, (await get(`api/cameras/${encodeURIComponent(exposure.instrument)}`)).detectors);
  if (drawn !== exposure.instrument) drawPlane(exposure.instrument, geometry.get(exposure.instrument));
  const counts = {};
  const states = new Map(exposure.detectors.map((one) => [one.detector, one]));
  for (const made of $("plane").querySelectorAll(".d")) {
    const one = states.get(made.dataset.name);
    if (!one) continue;
    counts[one.state] = (counts[one.state] ?? 0) + 1;
    const chosenNow = named().detector === one.detector ? " chosen" : "";
    made.setAttribute("class", `d s-${one.state}${one.late ? " late" : ""}${chosenNow}`);
    made.setAttribute("aria-label", `${one.detector}: ${one.state}${one.late ? ", late" : ""}`);
    made.nextSibling.textContent = (one.late ? "◷" : "") + STATES[one.state][0];
  }
  $("legend").replaceChildren(...Object.entries(STATES).map(([name, [mark, meaning]]) => {
    const key = shape("svg", { viewBox: "0 0 40 40", class: "key", "aria-hidden": "true" });
    const text = shape("text", { x: 20, y: 20, class: "mark" });
    text.textContent = mark;
    key.append(shape("rect", { x: 1, y: 1, width: 38, height: 38, class: `d s-${name}` }), text);
    return element("li", { title: meaning }, key, `${name} ${counts[name] ?? 0}`);
  }));
  showFacts(states);
}

function showFacts(states) {
  const total = (numbers) => (numbers ? Object.values(numbers).reduce((a, b) => a + b, 0) : "not known");
  const facts = {
    "obs_id": exposure.obs_id, "Instrument": exposure.instrument, "Type": exposure.observation_type, "Filter": exposure.physical_filter,
    "Target": exposure.target_name, "Group": exposure.group, "Expected": total(exposure.expected), "In the Butler": total(exposure.ingested),
    "Failed": exposure.failed.length, "Missing": exposure.missing?.join(" ") || "none", "State": exposure.state,
    "Visit": exposure.visit ?? "not known", "First put": exposure.times.first_put, "Last put": exposure.times.last_put,
    "Last ingested": exposure.times.last_ingested,
  };
  $("facts-list").replaceChildren(...Object.entries(facts).filter(([, value]) => value !== undefined && value !== null)
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  const one = states.get(named().detector);
  $("detector").replaceChildren(...(one ? [element("h2", {}, `${one.detector}: ${one.state}${one.late ? ", late" : ""}`),
    element("p", {}, `Put ${utc(one.created)}, announced ${utc(one.received)}, in the Butler ${utc(one.ingested)} UTC. ${one.reason}`),
    element("p", {}, element("code", {}, `autoingest explain ${exposure.obs_id}_${one.detector}`))] : []));
}

function tick() {
  const now = new Date();
  $("clock").textContent = `${now.toISOString().slice(11, 19)} UTC`;
  $("day").textContent = `day_obs ${new Date(now - 12 * 3600e3).toISOString().slice(0, 10)}`;
  const age = Date.now() - heard, stale = age > STALE;
  $("age").textContent = stale ? `No connection: last update ${span(age / 1000)} ago` : "";
  $("age").className = stale ? "stale" : "";
  if (stale) $("verdict").dataset.level = "none";
}

function listen() {
  const feed = new EventSource("api/feed");
  feed.addEventListener("status", (event) => {
    site = JSON.parse(event.data);
    heard = Date.now();
    showSite();
    showExposure();
  });
  // A browser gives up after an answer that is no stream, such as one of a proxy.
  feed.onerror = () => { if (feed.readyState === EventSource.CLOSED) setTimeout(listen, 2000); };
}

$("follow").addEventListener("click", () => { location.hash = ""; });
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.body).backgroundColor !== "rgb(255, 255, 255)";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});
$("strip").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: "previousSibling", ArrowRight: "nextSibling" }[event.key];
  if (step) event.target[step]?.focus();
});
addEventListener("hashchange", () => { if (site) showStrip(); showExposure(); });
setInterval(tick, 1000);
tick();
listen();
