// Why groups have their size: the band between what asks for longer and for shorter ones, and where the size is.

import { byId, el, say, show } from "./dom.js";
import { count, percent, plural, span } from "./format.js";

const AXIS_MAX = 1000;
const DAY_S = 86_400;
const TICKS = [1, 10, 100, 1000, 10_000];
const FEWER = {
  minimum: "the job asks for no fewer",
  stability: "with fewer, the cluster could not keep up",
  coordinator: "with fewer, the coordinator could not keep up",
  overhead: "with fewer, coordination would take more than its share",
  tail: "with fewer, too many records would meet a boundary",
};
const MORE = {
  maximum: "the job asks for no more",
  memory: "more would not fit into memory",
  retention: "sources would not keep the input of more",
  recovery: "with more, a recovery would take too long",
  adaptation: "with more, a change would wait too long",
};
const CHOSEN = {
  fixed: "The job states it",
  optimum: "It costs least",
  aimd: "The controller of the paper is at it",
  unmeasured: "Too little was measured to reckon with",
};

export class Tuner {
  draw(job) {
    const { tuner, group_size: size } = job;
    say(byId("group-now"), `${plural(size, "batch", "batches")} · ${span(size * job.batch_interval_ms)}`);
    say(byId("group-says"), tuner ? says(tuner) : "The job states it; every batch is scheduled from here.");
    show(byId("group-band"), Boolean(tuner));
    show(byId("group-inputs"), Boolean(tuner));
    if (!tuner) return;
    this.band(tuner, size);
    this.figures(tuner.inputs);
  }

  band({ lower, upper, optimum, alarm }, size) {
    const known = optimum !== null && optimum >= 1;
    const host = byId("group-band");
    const seen = JSON.stringify([lower, upper, optimum, alarm, size]);
    if (seen === this.seen) return;
    this.seen = seen;
    const most = Math.max(AXIS_MAX, size, Number.isFinite(upper) ? (upper ?? 1) : 1);
    const at = (batches) => (100 * Math.log(Math.min(most, Math.max(1, batches)))) / Math.log(most);
    const [least, greatest] = [lower ?? most, upper ?? most];
    const range = put("range", at(Math.min(least, greatest)), Math.abs(at(greatest) - at(least)));
    range.classList.toggle("contradiction", alarm !== null);
    const ticks = TICKS.filter((n) => n <= most).map((n) => tick(count(n), at(n)));
    const best = !known ? [] : [put(optimum > most ? "best beyond" : "best", at(optimum))];
    host.replaceChildren(el("span", { class: "rail" }, range, ...best, put("size", at(size))), ...ticks);
    host.setAttribute("aria-label", `Groups of ${count(size)}; from ${bound(lower)} to ${bound(upper)} are feasible`);
  }

  figures(inputs) {
    const host = byId("group-figures");
    const rows = Object.entries(inputs).map(named);
    if (host.children.length !== rows.length) {
      host.replaceChildren(...rows.map(() => el("div", {}, el("dt"), el("dd"))));
    }
    rows.forEach(([name, value], i) => {
      say(host.children[i].children[0], name);
      say(host.children[i].children[1], value);
    });
  }
}

function says({ binding, lower, upper, binds_lower: low, binds_upper: high, alarm, optimum }) {
  if (alarm) return `No size fits: ${alarm}. ${capital(FEWER[low] ?? low)}, but ${MORE[high] ?? high}.`;
  const why = CHOSEN[binding] ?? (binding in FEWER ? "As few as may be" : "As many as may be");
  const best = binding === "optimum" || optimum === null || optimum < 1 ? "" : `; ${count(optimum)} would cost least`;
  return `${why}${best}. At least ${bound(lower)}: ${FEWER[low] ?? low}. At most ${bound(upper)}: ${MORE[high] ?? high}.`;
}

// "coordination_seconds" -> "coordination", "37.1 ms"
function named([name, value]) {
  const [, words, unit] = name.match(/^(.*?)_(per_second|seconds|ratio|bytes)$/) ?? [null, name, ""];
  const one = words.replaceAll("_", " ");
  if (unit === "seconds") return [one, span(value * 1000)];
  if (unit === "ratio") return [one, percent(value, value < 0.1 ? 2 : 0)];
  const rare = unit === "per_second" && value < 0.01;
  const figure = String(Number((rare ? value * DAY_S : value).toPrecision(3)));
  if (unit === "per_second") return [one, `${figure} per ${rare ? "day" : "s"}`];
  return [one, unit ? `${figure} ${unit}` : figure];
}

function put(kind, left, width) {
  const node = el("span", { class: kind });
  node.style.left = `${left}%`;
  if (width !== undefined) node.style.width = `${width}%`;
  return node;
}

function tick(text, left) {
  const node = put("tick", left);
  node.append(text);
  return node;
}

const bound = (batches) => (batches === null ? "∞" : count(batches));
const capital = (words) => `${words[0].toUpperCase()}${words.slice(1)}`;
