// Why is it slow, and what is awaited: the last batches, stage by stage, and who was last.

import { ends, heardSoFar, HUES, lasted, OUTPUT, pieces } from "./batches.js";
import { byId, el, say } from "./dom.js";
import { count, list, patience, percent, plural, span } from "./format.js";
import { ranges } from "./members.js";

const ROWS = 10;
const OPEN_ROWS = 4;
const KEPT_MAX = 1500;
const KEPT_MS = 60_000;
const BLAME_BATCHES = 200;
const ACTIVE = ["waiting", "running", "stopping"];

export class Why {
  constructor(owners) {
    this.owners = owners;
    this.batches = new Map();
    this.paused = false;
    byId("why-pause").addEventListener("click", (event) => this.pause(event.currentTarget));
    byId("why-order").addEventListener("change", () => this.rows());
  }

  reset() {
    this.batches.clear();
  }

  pause(button) {
    this.paused = !this.paused;
    button.setAttribute("aria-pressed", String(this.paused));
    say(button, this.paused ? "Go on" : "Pause");
    this.rows();
  }

  draw(job, cluster) {
    this.job = job;
    this.now = cluster.now_ms;
    for (const batch of job.timeline) this.batches.set(batch.batch, batch);
    this.finish(job);
    const least = this.now - KEPT_MS;
    const ended = !ACTIVE.includes(job.phase); // nobody will do what it left
    for (const [number, batch] of this.batches) {
      if (batch.due_ms < least || this.batches.size > KEPT_MAX || (ended && !batch.done)) this.batches.delete(number);
    }
    say(byId("why-awaits"), awaits(job, cluster));
    say(byId("why-blame"), this.blame(job));
    say(byId("why-how"), how(job));
    this.key(job);
    if (!this.paused) this.rows();
  }

  // A batch may end between two looks and be out of the timeline by the second one.
  finish(job) {
    const latencies = new Map(job.points.map(([batch, , ms]) => [batch, ms]));
    for (const [number, batch] of this.batches) {
      if (!batch.done && number <= job.frontier) this.batches.set(number, { ...batch, done: true, latency_ms: latencies.get(number) ?? null });
    }
  }

  key(job) {
    const seen = `${job.stages.length}`;
    if (byId("why-key").dataset.seen === seen) return;
    byId("why-key").dataset.seen = seen;
    const stages = job.stages.map((s) => el("span", { class: `swatch hue-${s.stage % HUES}` }, `stage ${s.stage}`));
    const others = [["hue-output", "output"], ["hue-whole", "not told apart"], ["unsealed", "not sealed in time"], ["waiting", "awaited now"], ["overdue", "awaited too long"]];
    byId("why-key").replaceChildren(...stages, ...others.map(([kind, words]) => el("span", { class: `swatch ${kind}` }, words)));
  }

  rows() {
    if (!this.job) return;
    const all = [...this.batches.values()].sort((a, b) => b.batch - a.batch);
    const length = (b) => (b.done ? lasted(b, this.job) : this.now - b.due_ms);
    const slowest = byId("why-order").value === "slowest";
    const open = all.filter((b) => !b.done).slice(-OPEN_ROWS);
    const newest = [...open, ...all.filter((b) => b.done)];
    const shown = (slowest ? all.sort((a, b) => length(b) - length(a)) : newest).slice(0, ROWS);
    const scale = Math.max(this.job.batch_interval_ms, ...shown.map(length), 1);
    byId("why").replaceChildren(...shown.map((batch) => this.row(batch, scale)));
  }

  row(batch, scale) {
    const track = el("span", { class: "track", "aria-hidden": "true" });
    const put = (from, to, hue, title) => {
      const part = el("span", { class: `part ${hue}`, title });
      part.style.left = `${(100 * from) / scale}%`;
      part.style.width = `${Math.max(0.4, (100 * Math.max(0, to - from)) / scale)}%`;
      track.append(part);
    };
    const age = this.now - batch.due_ms;
    const late = !batch.done && age > patience(this.job);
    const parts = batch.done ? pieces(batch, this.job) : heardSoFar(batch, this.job);
    for (const { from, to, kind, words } of parts) put(from, to, kind, words);
    if (!batch.done) put(Math.max(0, ...parts.map((part) => part.to)), age, late ? "overdue" : "waiting", "awaited");
    return el(
      "li",
      { class: late ? "batch late" : "batch" },
      el("span", { class: "number" }, count(batch.batch)),
      track,
      el("span", { class: "took" }, batch.done ? span(batch.latency_ms) : "…"),
      el("span", { class: "soft last" }, batch.done ? this.lastOf(batch) : this.missing(batch)),
    );
  }

  lastOf(batch) {
    const end = ends(batch, this.job);
    return end ? `last: stage ${end.stage} on ${this.owners.of(end.worker).letter}` : "";
  }

  missing(batch) {
    const heard = (stage) => (batch.stages[stage] ?? []).flatMap((w) => w.partitions).length;
    const whole = (stage) => heard(stage) >= this.job.stages[stage].partitions;
    const open = this.job.stages.filter((s) => !whole(s.stage) && s.inputs.every(whole));
    return open.length ? `awaits ${list(open.map((s) => `stage ${s.stage}`))}` : "";
  }

  // Which stage and which worker the last batches waited for.
  blame(job) {
    const done = [...this.batches.values()].filter((b) => b.done).slice(-BLAME_BATCHES);
    const last = done.filter((batch) => ends(batch, job));
    if (!last.length) return "";
    const by = new Map();
    const shares = new Map();
    let total = 0;
    for (const batch of last) {
      const { worker } = ends(batch, job);
      by.set(worker, (by.get(worker) ?? 0) + 1);
      for (const { stage, from, to } of pieces(batch, job).filter((piece) => piece.stage !== undefined)) {
        shares.set(stage, (shares.get(stage) ?? 0) + to - from);
        total += to - from;
      }
    }
    const [worker, times] = [...by].sort((a, b) => b[1] - a[1])[0];
    const named = [...shares].map(([stage, share]) => `${stage === OUTPUT ? "output" : `stage ${stage}`} ${percent(share / total)}`);
    return `Of the time of the last ${plural(last.length, "batch", "batches")}: ${list(named)}. Most often last: ${worker}, in ${percent(times / last.length)}.`;
  }
}

function how(job) {
  const bars = "Bars begin when a batch was due; the figure is from its sealing to its output, as workers measured it.";
  return job.tasks_timed ? bars : `${bars} Workers of this job report every ${span(job.report_ms)} and measure no stages, so only slow batches show them.`;
}

function awaits(job, cluster) {
  const waiting = job.awaits;
  if (job.waits_for) return `The job waits for ${job.waits_for}.`;
  if (!waiting) return ACTIVE.includes(job.phase) ? "Nothing is awaited: every batch that is due is done." : "The job has ended.";
  const late = new Set(waiting.stages.map((s) => s.stage));
  const first = waiting.stages.filter((s) => !job.stages[s.stage].inputs.some((i) => late.has(i)));
  if (waiting.for_ms <= patience(job)) return `Nothing is late: batch ${count(waiting.batch)} is being computed.`;
  const suspected = new Set(cluster.workers.filter((w) => w.suspected).map((w) => w.id));
  const here = new Set(cluster.workers.map((w) => w.id));
  const doubt = (id) => (!here.has(id) ? " (lost)" : suspected.has(id) ? " (suspected)" : "");
  const parts = first.map((s) => `stage ${s.stage} on ${s.worker}${doubt(s.worker)} (${s.partitions.length === 1 ? "partition" : "partitions"} ${ranges(s.partitions)})`);
  const sources = waiting.sources.length ? `; ${list(waiting.sources)} has not said that it is sealed` : "";
  return `Batch ${count(waiting.batch)} was due ${span(waiting.for_ms)} ago. It awaits ${list(parts)}${sources}.`;
}
