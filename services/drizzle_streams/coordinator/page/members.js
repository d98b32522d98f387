// Workers and sources: who is here, who is in doubt, who was lost a moment ago, who holds what.

import { byId, el } from "./dom.js";
import { count, percent, plural, span } from "./format.js";

const GONE_SHOWN_MS = 60_000;

export class Members {
  constructor(owners) {
    this.owners = owners;
    this.seen = new Map();
    this.gone = new Map();
  }

  reset() {
    this.seen.clear();
    this.gone.clear();
  }

  // Who is not listed any more was lost if the story says so, else it left in order.
  note(cluster) {
    const here = new Map(cluster.workers.map((worker) => [worker.id, worker]));
    for (const line of cluster.story) {
      if (line.kind === "WorkerLost") this.gone.set(line.text.split(":")[0], { at: line.at * 1000, how: "lost" });
    }
    for (const id of this.seen.keys()) {
      if (!here.has(id) && !this.gone.has(id)) this.gone.set(id, { at: cluster.now_ms, how: "left" });
    }
    for (const [id, { at }] of this.gone) {
      if (cluster.now_ms - at > GONE_SHOWN_MS || here.has(id)) this.gone.delete(id);
    }
    this.seen = here;
    this.owners.keep(new Set([...here.keys(), ...this.gone.keys()]));
  }

  draw(cluster, job) {
    const alive = cluster.workers.map((worker) => this.worker(worker, job));
    const gone = [...this.gone].map(([id, { at, how }]) => this.lost(id, how, cluster.now_ms - at));
    const none = el("li", { class: "none" }, "No worker has joined. Start one here: ", el("code", {}, "drizzle scale --workers 2"));
    byId("workers").replaceChildren(...(alive.length + gone.length ? [...alive, ...gone] : [none]));
    const sources = cluster.sources.map((source) => this.source(source, job));
    byId("sources").replaceChildren(...(sources.length ? sources : [el("li", { class: "none" }, "No source has joined.")]));
  }

  badge(id) {
    const owner = this.owners.of(id);
    return el("span", { class: `owner ${owner.colour}`, "aria-hidden": "true" }, owner.letter);
  }

  worker(worker, job) {
    const held = Object.entries(job?.placement?.[worker.id] ?? {});
    const holds = held.map(([stage, partitions]) => `stage ${stage}: ${ranges(partitions)}`).join(" · ");
    return el(
      "li",
      { class: "member", "data-worker": worker.id },
      this.badge(worker.id),
      el("div", { class: "who" }, el("b", {}, worker.id), state(worker), el("span", { class: "soft" }, worker.address)),
      busy(worker.busy, worker.slots),
      el("div", { class: "holds soft" }, holds ? `Partitions of ${holds}` : "Holds no partition"),
    );
  }

  lost(id, how, ago) {
    const [mark, word] = how === "lost" ? ["bad", "✕ lost"] : ["soft", "left"];
    const who = el("div", { class: "who" }, el("b", {}, id), el("span", { class: `mark ${mark}` }, `${word} ${Math.max(0, Math.round(ago / 1000))} s ago`));
    return el("li", { class: "member gone", "data-worker": id }, this.badge(id), who);
  }

  source(source, job) {
    const sealed = job?.sources?.[source.id];
    const reads = sealed ? `Sealed batch ${count(sealed.batch)}` : "Read by no job shown here";
    return el(
      "li",
      { class: "member" },
      el("span", { class: "owner plain", "aria-hidden": "true" }, "≋"),
      el("div", { class: "who" }, el("b", {}, source.id), state(source), el("span", { class: "soft" }, source.address)),
      el("div", { class: "figure" }, count(sealed?.backlog ?? null), el("small", {}, "backlog")),
      el("div", { class: "holds soft" }, `${reads} · ${plural(source.partitions, "partition")} of a stream`),
    );
  }
}

function state({ suspected, draining, slow, lease_left_ms: left }) {
  if (suspected) return el("span", { class: "mark warn" }, `▲ suspected, lease ends in ${span(left)}`);
  if (slow) return el("span", { class: "mark warn" }, "◐ straggles");
  return draining ? el("span", { class: "mark warn" }, "◐ leaving") : el("span", { class: "mark good" }, "● alive");
}

function busy(share, slots) {
  const bar = el("progress", { max: "1", value: String(Math.min(1, share)), "aria-label": "Busy" });
  return el("div", { class: "busy", title: `share of the time of ${plural(slots, "slot")} spent in tasks` }, bar, el("span", { class: "figure" }, percent(share), el("small", {}, "busy")));
}

// 0, 1, 2, 5 -> "0–2, 5"
export function ranges(numbers) {
  const found = [];
  for (const n of [...numbers].sort((a, b) => a - b)) {
    if (found.length && found.at(-1)[1] === n - 1) found.at(-1)[1] = n;
    else found.push([n, n]);
  }
  return found.map(([a, b]) => (a === b ? `${a}` : b === a + 1 ? `${a}, ${b}` : `${a}–${b}`)).join(", ");
}
