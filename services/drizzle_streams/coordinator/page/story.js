// The story as sentences, newest first, with filters.

import { byId, el, show } from "./dom.js";
import { clock } from "./format.js";

const KEPT_MAX = 600;
const SHOWN_MAX = 200;
const ABOUT = [
  ["trouble", /Lost|Suspected|Failed|Overdue|Refused|Away|HeldUp|NoGroupSizeFits|GivenUp|Crashed|Damaged/, "▲"],
  ["recovery", /Recover|Restored|Speculat|Replay|Regained|Back$/, "↻"],
  ["members", /Joined|Left|Leaving|Dismissed|Drain|Relieved|Reinstated|Scal|Rebalanc|Moved|Resized|Cut|Exited|TakenIn/, "●"],
  ["jobs", /^Job|Stop|Submitted|Placed|Group|Tun|Replan/, "■"],
];
const NAMES = { trouble: "Trouble", recovery: "Recovery", members: "Change", jobs: "Job", other: "Note" };

const SENTENCES = {
  NodeJoined: (text) => text.replace(/^(\S+) at (.*)$/, "$1 joined, at $2"),
  NodeSuspected: (text) => `${text}; it is suspected`,
  WorkerLost: (text) => text.replace(/^(\S+): /, "Worker $1 is lost: "),
  SourceLost: (text) => text.replace(/^(\S+): /, "Source $1 is lost: "),
  JobSubmitted: (text) => `Submitted, with ${text.replace(/^1 stages/, "1 stage")}`,
  JobPlaced: (text) => `Placed on the workers (${text})`,
  JobRestored: (text) => `Taken over ${text}`,
  RecoveryPlanned: (text) => `Recovery planned: ${text}`,
  Recovered: (text) => `Recovered: ${text}`,
  StopRequested: (text) => `Asked to stop; ${text}`,
  JobStopped: (text) => `Stopped: ${text}`,
  JobFailed: (text) => `Failed: ${text}`,
  TaskOverdue: (text) => `Overdue: ${text.replace("stage -1", "the input from its source")}`,
};

export const about = (kind) => (ABOUT.find(([, pattern]) => pattern.test(kind)) ?? ["other"])[0];

export function sentence({ kind, text }) {
  if (SENTENCES[kind]) return SENTENCES[kind](text);
  const words = kind.replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  return `${words[0].toUpperCase()}${words.slice(1)}: ${text}`;
}

export class Story {
  constructor() {
    this.lines = [];
    this.list = byId("story");
    byId("story-about").addEventListener("change", () => this.draw());
    byId("story-find").addEventListener("input", () => this.draw());
  }

  reset() {
    this.lines = [];
    this.draw();
  }

  add(lines) {
    const last = this.lines.at(-1)?.number ?? 0;
    const fresh = lines.filter((line) => line.number > last);
    if (!fresh.length) return;
    this.lines = [...this.lines, ...fresh].slice(-KEPT_MAX);
    this.draw();
  }

  draw() {
    const kind = byId("story-about").value;
    const words = byId("story-find").value.trim().toLowerCase();
    const fits = (line) =>
      (!kind || about(line.kind) === kind) &&
      (!words || `${line.kind} ${sentence(line)} ${line.job}`.toLowerCase().includes(words));
    const shown = this.lines.filter(fits).slice(-SHOWN_MAX).reverse();
    this.list.replaceChildren(...shown.map(row));
    show(byId("story-none"), shown.length === 0);
    show(this.list, shown.length > 0);
  }
}

function row(line) {
  const kind = about(line.kind);
  const sign = ABOUT.find(([name]) => name === kind)?.[2] ?? "·";
  return el(
    "li",
    { class: `line ${kind}`, "data-kind": line.kind },
    el("time", { datetime: new Date(line.at * 1000).toISOString() }, clock(line.at)),
    el("span", { class: "about" }, el("span", { "aria-hidden": "true", class: "sign" }, sign), NAMES[kind]),
    el("span", { class: "words" }, line.job ? el("b", {}, line.job) : null, sentence(line)),
  );
}
