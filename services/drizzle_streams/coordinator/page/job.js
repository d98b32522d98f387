// One job: in a sentence, in figures, and over the last minute.

import { Chart, Readings } from "./charts.js";
import { byId, el, say, show } from "./dom.js";
import { bytes, count, duration, NONE, patience, percent, plural, span } from "./format.js";

const MARKS = { running: ["good", "● running"], waiting: ["warn", "◌ waiting"], stopping: ["warn", "◐ stopping"], stopped: ["soft", "■ stopped"], failed: ["bad", "✕ failed"] };

export class Job {
  constructor() {
    this.lag = new Readings();
    this.overhead = new Readings();
    this.lagChart = new Chart(byId("lag"), { series: [{ label: "lag", colour: "--p50", fill: true }], height: 120, y: (v) => span(v) });
    this.overheadChart = new Chart(byId("overhead"), { series: [{ label: "overhead", colour: "--p95", fill: true }], height: 120, y: (v) => percent(v, v < 0.1 && v > 0 ? 1 : 0) });
  }

  reset() {
    this.lag.reset();
    this.overhead.reset();
  }

  draw(job, nowMs) {
    say(byId("job-name"), job.job);
    mark(byId("job-phase"), job.phase);
    say(byId("job-says"), says(job));
    show(byId("job-detail"), job.phase === "failed");
    if (job.phase === "failed") say(byId("job-detail"), job.detail);
    tiles(byId("tiles"), figures(job));
    const now = nowMs / 1000;
    this.lag.add(now, job.frontier_lag.ms);
    this.overhead.add(now, job.overhead);
    this.lagChart.draw([this.lag.times, this.lag.values], now, 2 * job.batch_interval_ms);
    this.overheadChart.draw([this.overhead.times, this.overhead.values], now, 0.02);
    say(byId("lag-now"), `${span(job.frontier_lag.ms)} · ${plural(job.frontier_lag.batches, "batch", "batches")}`);
    say(byId("overhead-now"), `${percent(job.overhead, 2)} · groups of ${count(job.group_size)}`);
    label("lag", `Frontier lag: ${span(job.frontier_lag.ms)}`);
    label("overhead", `Coordination overhead: ${percent(job.overhead, 2)}, group size ${count(job.group_size)}`);
  }
}

export function mark(node, phase) {
  const [kind, words] = MARKS[phase] ?? ["soft", phase];
  node.className = `mark ${kind}`;
  say(node, words);
}

function says(job) {
  const recovering = job.recovering;
  if (recovering) {
    const { reason, since_ms: since, moved, replayed_batches: batches } = recovering;
    return `Recovering for ${span(since)}: ${reason}; ${plural(moved, "partition")} moved, ${plural(batches, "batch", "batches")} to replay.`;
  }
  if (job.waits_for) return `Waits for ${job.waits_for}.`;
  if (job.phase === "running" || job.phase === "stopping") {
    const late = job.frontier_lag.ms > patience(job);
    const lag = late ? `${plural(job.frontier_lag.batches, "batch", "batches")} behind schedule` : "on schedule";
    const moves = job.boundary ? ` A move is on its way: ${job.boundary.reason}.` : "";
    return `${plural(job.batches_done, "batch", "batches")} done, ${lag}. A batch every ${span(job.batch_interval_ms)}.${moves}`;
  }
  return `${plural(job.batches_done, "batch", "batches")} done. ${job.phase === "failed" ? "It failed:" : job.detail}`;
}

function figures(job) {
  const latency = job.latency_ms;
  const checkpoint = job.checkpoint;
  return [
    ["Latency p50", ...duration(latency?.p50), `last ${count(latency?.count ?? 200)} batches`],
    ["p95", ...duration(latency?.p95), ""],
    ["p99", ...duration(latency?.p99), latency ? `worst ${span(latency.max)}` : ""],
    ["Frontier", count(job.frontier < 0 ? null : job.frontier), "", `group ${job.group ? `${count(job.group.first)}–${count(job.group.last)}` : NONE}`],
    ["Group size", count(job.group_size), "batches", `${plural(job.groups_launched, "group")} launched${job.groups_cut ? `, ${count(job.groups_cut)} cut` : ""}`],
    ["Checkpoint", ...duration(checkpoint.age_ms), `batch ${checkpoint.batch < 0 ? NONE : count(checkpoint.batch)} · ${bytes(checkpoint.bytes).join(" ")}`],
  ];
}

// Figures keep their nodes, so that only digits change.
export function tiles(host, rows) {
  while (host.children.length < rows.length) {
    host.append(el("div", {}, el("dt"), el("dd", {}, el("span", { class: "figure" }), el("span", { class: "unit" }), el("small"))));
  }
  while (host.children.length > rows.length) host.lastChild.remove();
  rows.forEach(([name, figure, unit, note], i) => {
    const [dt, dd] = host.children[i].children;
    say(dt, name);
    say(dd.children[0], String(figure));
    say(dd.children[1], unit ? ` ${unit}` : "");
    say(dd.children[2], note ?? "");
  });
}

function label(id, words) {
  if (byId(id).getAttribute("aria-label") !== words) byId(id).setAttribute("aria-label", words);
}
