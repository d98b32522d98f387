// Why is it slow, and what is awaited: the last batches, stage by stage, and who was last.

import { byId, el, say } from "./dom.js";
import { count, list, percent, plural, span } from "./format.js";
import { ranges } from "./members.js";

const ROWS = 10;
const OPEN_ROWS = 4;
const KEPT_MAX = 1500;
const KEPT_MS = 60_000;
const BLAME_BATCHES = 200;
const HUES = 4;

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
    const least = this.now - KEPT_MS;
    for (const [number, batch] of this.batches) {
      if (batch.due_ms < least || this.batches.size > KEPT_MAX) this.batches.delete(number);
    }
    say(byId("why-awaits"), awaits(job, cluster));
    say(byId("why-blame"), this.blame(job));
    this.key(job);
    if (!this.paused) this.rows();
  }

  key(job) {
    const seen = `${job.stages.length}`;
    if (byId("why-key").dataset.seen === seen) return;
    byId("why-key").dataset.seen = seen;
    const stages = job.stages.map((s) => el("span", { class: `swatch hue-${s.stage % HUES}` }, `stage ${s.stage}`));
    byId("why-key").replaceChildren(...stages, el("span", { class: "swatch waiting" }, "awaited now"));
  }

  rows() {
    if (!this.job) return;
    const all = [...this.batches.values()].sort((a, b) => b.batch - a.batch);
    const length = (b) => (b.done ? (ends(b, this.job)?.at ?? 0) : this.now - b.due_ms);
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
    const heard = stagesOf(batch, this.job);
    for (const { stage, from, to, workers } of heard) {
      const who = workers.map((w) => `${w.worker} ${span(Math.max(0, w.after_ms))}`).join(", ");
      put(from, to, `hue-${stage % HUES}`, `stage ${stage}: ${who}`);
    }
    if (!batch.done) put(Math.max(0, ...heard.map((h) => h.to)), this.now - batch.due_ms, "waiting", "awaited");
    return el(
      "li",
      { class: batch.done ? "batch" : "batch open" },
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

  // Which stage and which worker most batches waited for.
  blame(job) {
    const last = [...this.batches.values()].filter((b) => b.done).slice(-BLAME_BATCHES);
    const by = new Map();
    const shares = job.stages.map(() => 0);
    let total = 0;
    for (const batch of last) {
      const end = ends(batch, job);
      if (!end) continue;
      by.set(end.worker, (by.get(end.worker) ?? 0) + 1);
      for (const { stage, from, to } of stagesOf(batch, job)) shares[stage] += Math.max(0, to - from);
      total += end.at;
    }
    if (!total) return "";
    const [worker, times] = [...by].sort((a, b) => b[1] - a[1])[0];
    const stages = shares.map((share, stage) => `stage ${stage} ${stage ? "" : "took "}${percent(share / total)}${stage ? "" : " of the time"}`);
    const counted = [...by.values()].reduce((a, b) => a + b, 0);
    return `Of the last ${plural(counted, "batch", "batches")}: ${list(stages)}; ${worker} was last in ${percent(times / counted)}.`;
  }
}

// A stage lasts from when the stages before it were heard done (or the batch was due) to when it was.
function stagesOf(batch, job) {
  const ended = [];
  return job.stages.flatMap(({ stage, inputs, partitions }) => {
    const workers = batch.stages[stage] ?? [];
    const heard = workers.flatMap((w) => w.partitions).length;
    const from = Math.max(0, ...inputs.map((i) => ended[i] ?? 0));
    if (!workers.length) return [];
    const to = Math.max(from, ...workers.map((w) => w.after_ms));
    ended[stage] = to;
    return [{ stage, from, to, workers, whole: heard >= partitions }];
  });
}

function ends(batch, job) {
  const all = stagesOf(batch, job).flatMap(({ stage, workers }) => workers.map((w) => ({ stage, worker: w.worker, at: w.after_ms })));
  return all.sort((a, b) => b.at - a.at || b.stage - a.stage)[0];
}

function awaits(job, cluster) {
  const waiting = job.awaits;
  if (job.waits_for) return `The job waits for ${job.waits_for}.`;
  if (!waiting) return ["running", "stopping"].includes(job.phase) ? "Nothing is awaited: every batch that is due is done." : "The job has ended.";
  const late = new Set(waiting.stages.map((s) => s.stage));
  const first = waiting.stages.filter((s) => !job.stages[s.stage].inputs.some((i) => late.has(i)));
  const suspected = new Set(cluster.workers.filter((w) => w.suspected).map((w) => w.id));
  const here = new Set(cluster.workers.map((w) => w.id));
  const doubt = (id) => (!here.has(id) ? " (lost)" : suspected.has(id) ? " (suspected)" : "");
  const parts = first.map((s) => `stage ${s.stage} on ${s.worker}${doubt(s.worker)} (${s.partitions.length === 1 ? "partition" : "partitions"} ${ranges(s.partitions)})`);
  const sources = waiting.sources.length ? `; ${list(waiting.sources)} has not said that it is sealed` : "";
  return `Batch ${count(waiting.batch)} was due ${span(waiting.for_ms)} ago. It awaits ${list(parts)}${sources}.`;
}
