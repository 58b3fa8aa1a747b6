"use strict";
(() => {
const $ = id => document.getElementById(id);
const plan = JSON.parse($("plan").textContent);
const RAMP = 0.01, LEAD = 0.03, NEED = 1.0; // s: crossfade, start ahead, least to hear of each
const PAUSE = 25; // comparisons after which a pause is offered
const show = id => { for (const s of ["s-start", "s-trial", "s-end"]) $(s).hidden = s !== id; };
const warn = text => { $("alert").textContent = text; $("alert").hidden = !text; };
const chosen = () => document.querySelector("[name=vote]:checked");
const round = x => Math.round(x * 100) / 100;

// Order and sides come from the test and the listener (FNV-1a, mulberry32).
function hash(text) { let h = 2166136261; for (const c of new TextEncoder().encode(text)) { h ^= c; h = Math.imul(h, 16777619); } return h >>> 0; }
function random(seed) { let a = seed; return () => { a = (a + 0x6D2B79F5) | 0; let t = Math.imul(a ^ a >>> 15, 1 | a); t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t; return ((t ^ t >>> 14) >>> 0) / 4294967296; }; }
function shuffle(list, next) { for (let i = list.length - 1; i > 0; i--) { const j = Math.floor(next() * (i + 1)); [list[i], list[j]] = [list[j], list[i]]; } return list; }
function arrange(listener) {
  const next = random(hash(plan.test + ":" + listener)), order = shuffle([...plan.trials], next);
  const sides = shuffle(order.map((_, i) => i % 2), next); // as often one way as the other
  return order.map(({id, stems, x}, i) => ({id, a: stems[sides[i]], b: stems[1 - sides[i]], x}));
}

// After each vote all is kept in this browser, where it keeps anything for a file.
let store = null;
try { store = localStorage; store.setItem("voices-listen", "1"); store.removeItem("voices-listen"); } catch { store = null; }
const state = {listener: "", device: "", session: "", votes: [], at: 0, unsaved: false};
const slot = () => "voices-listen:" + plan.test + ":" + state.listener;
function keep() { state.unsaved = true; if (store) try { store.setItem(slot(), JSON.stringify({session: state.session, device: state.device, votes: state.votes})); } catch { store = null; tellStore(); } }
function tellStore() { if (!store) warn("This browser keeps nothing for this page: save your votes before you close it."); }
addEventListener("beforeunload", e => { if (state.unsaved && !store) e.preventDefault(); });

// All sounds of a trial run at once, from one moment; switching is a crossfade of their gains.
let context = null; const decoded = new Map();
function bytes(id) { const s = atob($("s-" + id).textContent.trim()), b = new Uint8Array(s.length); for (let i = 0; i < s.length; i++) b[i] = s.charCodeAt(i); return b.buffer; }
function buffer(id) { if (!decoded.has(id)) decoded.set(id, new Promise((ok, no) => { context.decodeAudioData(bytes(id), ok, no); })); return decoded.get(id); }
// Made in a click: a context that is older stays silent.
function wake() {
  if (!context) {
    context = new (window.AudioContext || window.webkitAudioContext)({latencyHint: "interactive"});
    context.onstatechange = () => { if (context.state !== "running" && player.on) player.stop(); };
    setTimeout(() => { if (context.state !== "running") warn("No sound output: is a device connected, and allowed to play?"); }, 1000);
  }
  return context.resume();
}
const player = {on: false, heard: {}, now: "a", from: 0, length: 1, buffers: null,
  load(buffers) { this.stop(); this.buffers = buffers; this.length = Math.min(...Object.values(buffers).map(b => b.duration)); this.from = 0; this.now = "a"; this.heard = {a: 0, b: 0, x: 0}; this.switches = 0; },
  place() { return this.on ? (this.from + Math.max(0, context.currentTime - this.began)) % this.length : this.from; },
  start() {
    if (this.on || !this.buffers) return;
    const when = context.currentTime + LEAD; this.nodes = {};
    for (const [name, buf] of Object.entries(this.buffers)) {
      const source = context.createBufferSource(), gain = context.createGain();
      source.buffer = buf; source.loop = true; source.loopStart = 0; source.loopEnd = this.length;
      gain.gain.value = name === this.now ? 1 : 0; source.connect(gain).connect(context.destination);
      source.start(when, this.from); this.nodes[name] = {source, gain};
    }
    this.began = this.since = when; this.on = true; draw();
  },
  stop() {
    if (!this.on) return;
    this.count(); this.from = this.place(); const t = context.currentTime;
    for (const {source, gain} of Object.values(this.nodes)) { fade(gain.gain, gain.gain.value, 0, t); source.stop(t + RAMP); }
    this.on = false; draw();
  },
  count() { if (this.on) { this.heard[this.now] += Math.max(0, context.currentTime - this.since); this.since = Math.max(this.since, context.currentTime); } },
  turn(name) {
    if (!this.buffers || !this.buffers[name]) return;
    this.count();
    if (name !== this.now) {
      this.switches++;
      const at = this.on && context.currentTime + 2 * RAMP; // ahead, so that all gains hear of it in time
      if (this.on) for (const [n, {gain}] of Object.entries(this.nodes)) fade(gain.gain, n === this.now ? 1 : 0, n === name ? 1 : 0, at);
      this.now = name;
    }
    if (!this.on) this.start(); draw();
  },
  seek(to) { const was = this.on; this.stop(); this.from = ((to % this.length) + this.length) % this.length; if (was) this.start(); draw(); }};
function fade(gain, from, to, t) { gain.cancelScheduledValues(t); gain.setValueAtTime(from, t); gain.linearRampToValueAtTime(to, t + RAMP); }
function draw() {
  for (const n of ["a", "b", "x"]) { $("h-" + n).setAttribute("aria-pressed", String(player.on && player.now === n)); $("h-" + n).classList.toggle("heard", (player.heard[n] || 0) >= NEED); }
  $("play").setAttribute("aria-pressed", String(player.on)); $("play").firstChild.data = player.on ? "Stop " : "Play ";
}
function tick() { if (player.on) { player.count(); $("pos").value = player.place(); if (!$("s-trial").hidden) ready(); draw(); } requestAnimationFrame(tick); }

// One comparison after the other.
let rows = [], shown = 0, told = "";
function ready() {
  const heard = state.votes[state.at] || player.heard.a >= NEED && player.heard.b >= NEED, text = heard ? "" : "Listen to A and to B before you vote.";
  $("votes").disabled = !heard; if (text !== told) $("hint").textContent = told = text;
  $("next").disabled = !(heard && chosen());
}
async function open() {
  if (state.at >= rows.length) return finish();
  show("s-trial"); const row = rows[state.at], old = state.votes[state.at], after = rows[state.at + 1];
  $("where").textContent = `Comparison ${state.at + 1} of ${rows.length}` + (state.at && state.at % PAUSE === 0 ? " – a good moment for a pause" : "");
  $("bar").max = rows.length; $("bar").value = state.at; $("back").disabled = state.at === 0; $("h-x").hidden = !row.x;
  for (const r of document.querySelectorAll("[name=vote]")) r.checked = Boolean(old) && r.value === (old.choice || "none");
  player.stop(); player.buffers = null; told = null;
  const names = ["a", "b", ...(row.x ? ["x"] : [])], wanted = new Set(names.map(n => row[n]));
  try {
    const list = await Promise.all(names.map(n => buffer(row[n])));
    player.load(Object.fromEntries(names.map((n, i) => [n, list[i]])));
  } catch (e) { warn(`This browser cannot decode the sound of this comparison (${e}). Please try another browser.`); return; }
  $("pos").max = player.length; $("pos").value = 0; shown = performance.now(); draw(); ready(); $("question").focus();
  if (after) for (const id of [after.a, after.b, after.x].filter(Boolean)) { wanted.add(id); buffer(id).catch(() => {}); }
  for (const id of decoded.keys()) if (!wanted.has(id)) decoded.delete(id);
}
function vote() {
  if ($("next").disabled) return;
  player.count(); player.stop();
  const row = rows[state.at], old = state.votes[state.at], choice = chosen().value;
  state.votes[state.at] = {table: "listening_votes", test: plan.test, listener: state.listener, session: state.session, trial: row.id, position: state.at + 1, a: row.a, b: row.b, choice: choice === "none" ? null : choice, heard_a: round(player.heard.a), heard_b: round(player.heard.b), heard_x: round(player.heard.x), switches: player.switches, seconds: round((performance.now() - shown) / 1000), revised: old ? old.revised + 1 : 0, device: state.device, voted_at: new Date().toISOString()};
  state.at++; keep(); open();
}
function lines() {
  const comment = $("comment").value, votes = state.votes.map(v => comment ? {...v, comment} : v);
  return [...votes, {table: "end", rows: {listening_votes: votes.length}}].map(v => JSON.stringify(v) + "\n").join("");
}
const fileName = () => `votes-${plan.test}-${state.listener.replace(/[^\w-]+/g, "_")}.jsonl`;
function finish() {
  player.stop(); show("s-end"); const count = state.votes.length, left = rows.length - count;
  $("done").textContent = left ? `${count} of ${rows.length} comparisons are done` : "All done. Thank you!";
  $("more").hidden = !left; $("file").textContent = fileName(); $("text").value = lines(); $("done").focus();
}
function save() {
  const a = document.createElement("a"), url = URL.createObjectURL(new Blob([lines()], {type: "application/x-ndjson"}));
  a.href = url; a.download = fileName(); document.body.append(a); a.click(); a.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60000); state.unsaved = false; $("text").value = lines();
}
function begin() {
  const name = $("listener").value.normalize("NFC").trim();
  if (!name) { warn("Please give a name or a code."); $("listener").focus(); return; }
  if (!$("device").value) { warn("Please say what you listen with."); $("device").focus(); return; }
  warn(""); player.stop(); state.listener = name; state.device = $("device").value; rows = arrange(name); tellStore();
  let old = state.loaded || null;
  try { old = old || store && JSON.parse(store.getItem(slot())); } catch { old = null; }
  state.session = old ? old.session : Array.from(crypto.getRandomValues(new Uint8Array(8)), b => b.toString(16).padStart(2, "0")).join("");
  state.votes = old ? old.votes : []; state.at = state.votes.length; wake(); open();
}
async function load(e) {
  const file = e.target.files[0]; if (!file) return;
  try {
    const votes = (await file.text()).split("\n").filter(Boolean).map(l => JSON.parse(l)).filter(v => v.table === "listening_votes");
    if (!votes.length || votes[0].test !== plan.test) throw new Error("these are not votes of this test");
    $("listener").value = votes[0].listener; $("device").value = votes[0].device; state.loaded = {session: votes[0].session, votes}; warn("");
  } catch (x) { warn("Not loaded: " + x.message); }
}
$("count").textContent = plan.trials.length; $("minutes").textContent = Math.max(1, Math.round(plan.trials.length * 25 / 60));
$("start").onclick = begin; $("load").onchange = load;
$("volume").onclick = async () => { await wake(); if (player.on) { player.stop(); $("volume").textContent = "Play a sample to set the volume"; return; } player.load({a: await buffer(plan.sample)}); player.start(); $("volume").textContent = "Stop"; };
for (const n of ["a", "b", "x"]) $("h-" + n).onclick = () => { wake(); player.turn(n); };
$("play").onclick = () => { wake(); player.on ? player.stop() : player.start(); };
$("pos").oninput = e => player.seek(Number(e.target.value));
$("votes").onchange = ready; $("next").onclick = vote; $("pause").onclick = finish; $("save").onclick = save; $("comment").onchange = () => $("text").value = lines();
$("more").onclick = () => { state.at = state.votes.length; open(); }; $("back").onclick = () => { if (state.at > 0) { state.at--; open(); } };
document.addEventListener("visibilitychange", () => { if (document.hidden) player.stop(); });
document.addEventListener("keydown", e => {
  if ($("s-trial").hidden || !$("keys").checked || e.ctrlKey || e.metaKey || e.altKey || e.isComposing) return;
  const t = e.target, k = e.key.toLowerCase(), one = k.length === 1;
  if (one && "abx".includes(k)) { wake(); player.turn(k); }
  else if (k === "p" || k === " " && !t.matches("button:not(#h-a,#h-b,#h-x),summary,input")) { if (!e.repeat) $("play").click(); }
  else if ((k === "arrowleft" || k === "arrowright") && !t.matches("input")) player.seek(player.place() + (k === "arrowleft" ? -1 : 1));
  else if (one && "123".includes(k)) { if (!$("votes").disabled) { document.querySelectorAll("[name=vote]")[Number(k) - 1].checked = true; ready(); } }
  else if (k === "enter" && !t.matches("button,summary")) { if (!e.repeat) vote(); }
  else return;
  e.preventDefault();
});
show("s-start"); tellStore(); tick();
})();
