// The console: takes what the feed says and hands it to those who show it. Looks only, changes nothing.

import { byId, el, say, show } from "./dom.js";
import { Feed } from "./feed.js";
import { clock, count, duration, plural, span } from "./format.js";
import { Job, mark, tiles } from "./job.js";
import { Latency } from "./latency.js";
import { Members } from "./members.js";
import { Owners } from "./owners.js";
import { Stages } from "./stages.js";
import { Story } from "./story.js";
import { Tuner } from "./tuner.js";
import { Why } from "./why.js";

const STATES = {
  connecting: ["◌", "Connecting"],
  live: ["●", "Live"],
  stale: ["◐", "No news"],
  lost: ["▲", "Connection lost, retrying"],
  out: ["✕", "Signed out"],
};

const owners = new Owners();
const story = new Story();
const members = new Members(owners);
const views = { job: new Job(), latency: new Latency(story), stages: new Stages(owners), tuner: new Tuner(), why: new Why(owners) };
let cluster = null;
let job = null;

const feed = new Feed({ onCluster, onJob, onState });
feed.open(decodeURIComponent(location.hash.slice(1)));
addEventListener("hashchange", () => choose(decodeURIComponent(location.hash.slice(1))));
say(byId("where"), location.host);

function onCluster(news) {
  if (cluster && cluster.leader.term !== news.leader.term) reset(); // another life: its numbers begin anew
  cluster = news;
  story.add(news.story);
  members.note(news);
  facts(news);
  tabs(news.jobs);
  notices(news);
  if (!news.jobs.length) job = null;
  show(byId("job"), job !== null);
  members.draw(news, job);
  document.title = title(news);
  say(byId("version"), `drizzle-streams ${news.leader.version}`);
}

function onJob(news) {
  if (job && (job.job !== news.job || job.run.split("@")[1] !== news.run.split("@")[1])) forget();
  job = news;
  show(byId("job"), true);
  views.job.draw(job, cluster.now_ms);
  views.latency.draw(job, cluster.now_ms);
  views.tuner.draw(job);
  views.stages.draw(job);
  views.why.draw(job, cluster);
  members.draw(cluster, job);
  tabs(cluster.jobs);
}

function onState(state, age) {
  const [sign, words] = STATES[state];
  const node = byId("link-state");
  node.className = `link-state ${state}`;
  say(node, `${sign} ${words}`);
  const shown = state === "out" ? "" : age === null ? "" : age < 1000 ? "just now" : `data ${Math.floor(age / 1000)} s old`;
  say(byId("link-age"), shown);
  document.body.classList.toggle("old", state !== "live" && state !== "connecting");
  if (state === "out" && !byId("sign-in")) {
    byId("notices").replaceChildren(el("p", { class: "notice", id: "sign-in" }, "The session has ended. ", el("a", { href: "/" }, "Sign in again")));
  }
}

function facts({ leader, generation, workers, sources, workers_lost: lost, uptime_ms: uptime }) {
  const suspected = workers.filter((w) => w.suspected).length;
  const doubt = suspected ? `▲ ${suspected} suspected` : lost ? `${count(lost)} lost so far` : "none lost";
  const busiest = workers.length ? `busiest ${Math.round(100 * Math.max(...workers.map((w) => w.busy)))} %` : "";
  tiles(byId("facts"), [
    ["Leader", leader.name, "", leader.address.replace(/^https?:\/\//, "")],
    ["Generation", count(generation), "", "of the placement"],
    ["Workers", count(workers.length), "", [doubt, busiest].filter(Boolean).join(" · ")],
    ["Sources", count(sources.length), "", plural(sources.reduce((n, s) => n + s.partitions, 0), "partition")],
    ["Leads for", ...duration(uptime), `since ${clock(leader.since)}`],
  ]);
}

function tabs(jobs) {
  const shown = JSON.stringify([jobs.map((j) => [j.job, j.phase]), job?.job]);
  const host = byId("jobs");
  if (host.dataset.shown === shown) return;
  host.dataset.shown = shown;
  const focused = document.activeElement?.dataset?.job;
  host.replaceChildren(...jobs.map(tab));
  if (focused) host.querySelector(`[data-job="${CSS.escape(focused)}"]`)?.focus();
  show(host, jobs.length > 1);
}

function tab({ job: name, phase }) {
  const state = el("span");
  mark(state, phase);
  const button = el("button", { class: "tab", "data-job": name, "aria-pressed": String(job?.job === name) }, name, state);
  button.addEventListener("click", () => (location.hash = encodeURIComponent(name)));
  return button;
}

function choose(name) {
  forget();
  feed.open(name);
}

function notices({ jobs, workers, warnings }) {
  const shown = JSON.stringify([jobs.length > 0, workers.length > 0, warnings]);
  if (byId("notices").dataset.shown === shown) return;
  byId("notices").dataset.shown = shown;
  const none = el(
    "section",
    { class: "card empty" },
    el("h2", {}, "No job yet"),
    el("p", {}, "Submit one from the folder where the cluster was started:"),
    el("pre", { tabindex: "0", "aria-label": "Command that submits a job" }, el("code", {}, "drizzle submit job.py")),
    el("p", { class: "soft" }, "It appears here as soon as it is submitted."),
  );
  const idle = el("p", { class: "notice" }, "▲ No worker has joined, so no job can run. Start workers here: ", el("code", {}, "drizzle scale --workers 2"));
  const warned = warnings.map((text) => el("p", { class: "notice" }, `▲ ${text}`));
  byId("notices").replaceChildren(...(workers.length ? [] : [idle]), ...warned, ...(jobs.length ? [] : [none]));
}

function title({ jobs }) {
  const failed = jobs.filter((j) => j.phase === "failed").length;
  return failed ? `✕ ${plural(failed, "job")} failed · Drizzle` : job ? `${job.job} ${span(job.latency_ms?.p50 ?? null)} · Drizzle` : "Drizzle";
}

function forget() {
  job = null;
  for (const view of Object.values(views)) view.reset?.();
}

function reset() {
  forget();
  story.reset();
  members.reset();
}
