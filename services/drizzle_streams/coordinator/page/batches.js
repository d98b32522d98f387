// What a batch spent its time on, in ms from when it was due, as far as it is known.
//
// Best are the times that workers measured of their tasks. Where they did not (a replay, a job that
// does not watch for stragglers), there are the times of their reports, which are late by up to
// `report_ms`: these tell stages apart only in batches that took far longer than that.

import { span } from "./format.js";

export const HUES = 4;
export const OUTPUT = -1;

// When the coordinator had heard of everything.
const heardAt = (batch, job) => Math.max(0, ...heard(batch, job).map((stage) => stage.to));

const blur = (job) => 2 * job.report_ms;

// What was not latency, but waiting for a source to seal: as far as reports tell.
function unsealed(batch, job) {
  const before = heardAt(batch, job) - (batch.latency_ms ?? 0);
  return before > blur(job) ? before - job.report_ms : 0;
}

export const lasted = (batch, job) => unsealed(batch, job) + (batch.latency_ms ?? heardAt(batch, job));

// A batch that is done: waiting for its seal, its stages, its output.
export function pieces(batch, job) {
  const start = unsealed(batch, job);
  const end = lasted(batch, job);
  const before = start ? [{ from: 0, to: start, kind: "unsealed", words: `sealed ${span(start)} late` }] : [];
  const stages = known(batch, job);
  if (!stages) return [...before, { from: start, to: end, kind: "hue-whole", words: span(end - start) }];
  const within = (at) => Math.min(end, Math.max(start, at));
  const parts = stages.map((piece) => ({ ...named(piece), from: within(piece.from), to: within(piece.to) }));
  const computed = Math.max(start, ...parts.map((piece) => piece.to));
  const output = { stage: OUTPUT, from: computed, to: end, kind: "hue-output", words: `output ${span(end - computed)}` };
  return [...before, ...parts, ...(end > computed ? [output] : [])];
}

// A batch that is not done: what has been reported of it.
export const heardSoFar = (batch, job) => heard(batch, job).map(named);

// The worker that was the last one at the last stage, or undefined if that cannot be told.
export function ends(batch, job) {
  const last = known(batch, job)?.reduce((a, b) => (b.to >= a.to ? b : a));
  return last && { stage: last.stage, worker: last.workers.reduce((a, b) => (b.at > a.at ? b : a)).worker };
}

function named({ stage, from, to, workers }) {
  const words = `stage ${stage}: ${workers.map(({ worker, at }) => `${worker} ${span(Math.max(0, at))}`).join(", ")}`;
  return { stage, from, to, kind: `hue-${stage % HUES}`, words };
}

function known(batch, job) {
  const whole = job.stages.every((s) => partitions(batch.stages[s.stage]) >= s.partitions);
  if (!whole) return null;
  if (batch.stages.flat().every((w) => w.took_ms !== null)) {
    const start = unsealed(batch, job);
    return chain(batch, job, start, (w) => start + w.took_ms);
  }
  return (batch.latency_ms ?? 0) > blur(job) ? heard(batch, job) : null;
}

const heard = (batch, job) => chain(batch, job, 0, (w) => w.after_ms);

const partitions = (workers = []) => workers.reduce((sum, w) => sum + w.partitions.length, 0);

// A stage lasts from when the stages before it ended to when its last worker did.
function chain(batch, job, start, time) {
  const ended = [];
  return job.stages.flatMap(({ stage, inputs }) => {
    const workers = (batch.stages[stage] ?? []).map((w) => ({ worker: w.worker, at: time(w) }));
    if (!workers.length) return [];
    const from = Math.max(start, ...inputs.map((i) => ended[i] ?? start));
    const to = Math.max(from, ...workers.map((w) => w.at));
    ended[stage] = to;
    return [{ stage, from, to, workers }];
  });
}
