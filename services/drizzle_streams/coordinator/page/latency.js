// Latency of each batch as a dot, and what half, 95 % and 99 % of the last batches stay under.

import { Chart, SPAN_S } from "./charts.js";
import { byId, el } from "./dom.js";
import { quantile, span } from "./format.js";
import { about } from "./story.js";

const WINDOW = 100;
const POINTS_MAX = 6000;
const MARKS = { trouble: ["▲", "--bad"], recovery: ["↻", "--accent"], members: ["●", "--soft"] };
const LINES = [["p50", 0.5, "--p50"], ["p95", 0.95, "--p95"], ["p99", 0.99, "--p99"]];

export class Latency {
  constructor(story) {
    this.data = [[], [], [], [], []];
    this.last = -1;
    this.story = story;
    const series = [
      { label: "batch", colour: "--dot", dots: true },
      { label: "p50", colour: "--p50", width: 2.5 },
      { label: "p95", colour: "--p95", width: 1.5, dash: [6, 3] },
      { label: "p99", colour: "--p99", width: 1.5, dash: [2, 3] },
    ];
    const height = innerWidth < 600 ? 190 : 240;
    this.chart = new Chart(byId("latency"), { series, height, y: (v) => (v < 1000 ? `${v} ms` : `${v / 1000} s`), marks: () => this.marks() });
    const key = ([name, , colour]) => el("span", { class: `swatch ${colour.slice(2)}` }, name);
    byId("latency-key").append(el("span", { class: "swatch dot" }, "one batch"), ...LINES.map(key), el("span", {}, `of the last ${WINDOW}`));
  }

  reset() {
    for (const row of this.data) row.length = 0;
    this.last = -1;
  }

  get size() {
    return this.data[0].length;
  }

  draw(job, nowMs) {
    const [times, values, ...lines] = this.data;
    for (const [batch, due, ms] of job.points) {
      if (batch <= this.last) continue;
      this.last = batch;
      times.push(due / 1000);
      values.push(ms);
      const ranked = values.slice(-WINDOW).sort((a, b) => a - b);
      LINES.forEach(([, share], i) => lines[i].push(quantile(ranked, share)));
    }
    const old = times.findIndex((t) => t >= nowMs / 1000 - SPAN_S - 1);
    const drop = Math.max(old < 0 ? Math.max(0, times.length - WINDOW) : Math.max(0, old - WINDOW), times.length - POINTS_MAX);
    if (drop > 0) for (const row of this.data) row.splice(0, drop);
    this.chart.draw(this.data, nowMs / 1000, 5);
    this.describe(job.latency_ms);
  }

  describe(latency) {
    const words = latency
      ? `Batch latency: p50 ${span(latency.p50)}, p95 ${span(latency.p95)}, p99 ${span(latency.p99)}`
      : "Batch latency: no batch is done yet";
    const host = byId("latency");
    if (host.getAttribute("aria-label") !== words) host.setAttribute("aria-label", words);
    host.dataset.points = String(this.size);
  }

  marks() {
    return this.story.lines
      .filter((line) => MARKS[about(line.kind)])
      .slice(-40)
      .map((line) => ({ at: line.at, sign: MARKS[about(line.kind)][0], colour: MARKS[about(line.kind)][1] }));
  }
}
