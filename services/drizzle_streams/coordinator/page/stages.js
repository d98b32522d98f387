// The job as a graph: streams, stages, sink; in every stage its partitions with the letters of their owners.

import { byId, el, svg } from "./dom.js";
import { count, plural } from "./format.js";

const WIDE = { width: 216, gapMain: 56, gapCross: 20 };
const NARROW_BELOW = 620;
const CELL = 22;
const PER_ROW = 8;
const CELLS_MAX = 32;

export class Stages {
  constructor(owners) {
    this.owners = owners;
    this.host = byId("stages");
  }

  draw(job) {
    const narrow = this.host.clientWidth < NARROW_BELOW;
    const seen = JSON.stringify([narrow, job.job, job.stages, job.placement, job.phase]);
    if (seen === this.seen) return;
    this.seen = seen;
    const nodes = this.nodes(job);
    place(nodes, narrow);
    const width = Math.max(...nodes.map((n) => n.x + n.width)) + 2;
    const height = Math.max(...nodes.map((n) => n.y + n.height)) + 2;
    const picture = svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": describe(job) },
      svg("defs", {}, svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" }, svg("path", { d: "M0 0L8 4L0 8z", class: "tip" }))),
      ...nodes.flatMap((to) => to.inputs.map((from) => edge(from, to, narrow))),
      ...nodes.map((node) => box(node)),
    );
    this.host.replaceChildren(picture);
    const workers = Object.keys(job.placement).sort();
    byId("owners").replaceChildren(...workers.map((id) => this.legend(id)));
  }

  legend(id) {
    const { letter, colour } = this.owners.of(id);
    return el("span", { class: "legend" }, el("span", { class: `owner ${colour}` }, letter), id);
  }

  nodes(job) {
    const streams = new Map();
    const stages = job.stages.map((stage) => ({ stage, inputs: [], cells: this.cells(job, stage) }));
    for (const node of stages) {
      const { stage, stream, inputs, frontier, partitions, stateful } = node.stage;
      node.title = `Stage ${stage}`;
      node.says = stream ? "reads, filters, partly aggregates" : stateful ? "merges, keeps state" : "joins";
      node.done = frontier < 0 ? "nothing done yet" : `done through batch ${count(frontier)}`;
      node.note = plural(partitions, "partition");
      node.inputs = inputs.map((i) => stages[i]);
      if (stream && !streams.has(stream)) streams.set(stream, { title: stream, says: "stream", inputs: [], cells: [], pill: true });
      if (stream) node.inputs.push(streams.get(stream));
    }
    const writing = stages.filter((node) => node.stage.writes_output);
    const sink = writing.length ? [{ title: "sink", says: "output", inputs: writing, cells: [], pill: true }] : [];
    return [...streams.values(), ...stages, ...sink];
  }

  cells(job, { stage, partitions }) {
    const owner = new Map();
    for (const [worker, held] of Object.entries(job.placement)) {
      for (const partition of held[stage] ?? []) owner.set(partition, this.owners.of(worker));
    }
    const shown = Math.min(partitions, CELLS_MAX);
    return Array.from({ length: shown }, (_, p) => ({ partition: p, ...(owner.get(p) ?? { letter: "?", colour: "nobody" }) }));
  }
}

function place(nodes, narrow) {
  const depth = new Map();
  const of = (node) => {
    if (!depth.has(node)) depth.set(node, node.inputs.length ? 1 + Math.max(...node.inputs.map(of)) : 0);
    return depth.get(node);
  };
  const layers = [];
  for (const node of nodes) {
    node.width = node.pill ? Math.max(88, node.title.length * 8 + 32) : WIDE.width;
    node.height = node.pill ? 46 : 78 + Math.ceil(node.cells.length / PER_ROW) * (CELL + 3);
    (layers[of(node)] ??= []).push(node);
  }
  const along = (n) => (narrow ? n.height : n.width);
  const across = (n) => (narrow ? n.width : n.height);
  const total = (layer) => layer.reduce((sum, n) => sum + across(n) + WIDE.gapCross, -WIDE.gapCross);
  const breadth = Math.max(...layers.map(total));
  let main = 1;
  for (const layer of layers) {
    let cross = 1 + (breadth - total(layer)) / 2;
    for (const node of layer) {
      [node.x, node.y] = narrow ? [cross, main] : [main, cross];
      cross += across(node) + WIDE.gapCross;
    }
    main += Math.max(...layer.map(along)) + (narrow ? 34 : WIDE.gapMain);
  }
}

function edge(from, to, narrow) {
  const [x1, y1] = narrow ? [from.x + from.width / 2, from.y + from.height] : [from.x + from.width, from.y + from.height / 2];
  const [x2, y2] = narrow ? [to.x + to.width / 2, to.y - 2] : [to.x - 2, to.y + to.height / 2];
  const [cx, cy] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const d = narrow ? `M${x1} ${y1}C${x1} ${cy} ${x2} ${cy} ${x2} ${y2}` : `M${x1} ${y1}C${cx} ${y1} ${cx} ${y2} ${x2} ${y2}`;
  return svg("path", { d, class: "edge", "marker-end": "url(#tip)" });
}

function box({ x, y, width, height, title, says, done, note, cells, pill }) {
  if (pill) {
    return svg(
      "g",
      { transform: `translate(${x} ${y})` },
      svg("rect", { width, height, rx: height / 2, class: "pill" }),
      svg("text", { x: width / 2, y: 20, class: "name", "text-anchor": "middle" }, title),
      svg("text", { x: width / 2, y: 35, class: "note", "text-anchor": "middle" }, says),
    );
  }
  const squares = cells.flatMap(({ letter, colour, partition }, i) => {
    const [cx, cy] = [14 + (i % PER_ROW) * (CELL + 2), 68 + Math.floor(i / PER_ROW) * (CELL + 3)];
    return [
      svg("rect", { x: cx, y: cy, width: CELL, height: CELL, rx: 5, class: `cell ${colour}` }, svg("title", {}, `partition ${partition}`)),
      svg("text", { x: cx + CELL / 2, y: cy + 15.5, class: "letter", "text-anchor": "middle" }, letter),
    ];
  });
  return svg(
    "g",
    { transform: `translate(${x} ${y})` },
    svg("rect", { width, height, rx: 10, class: "stage" }),
    svg("text", { x: 14, y: 24, class: "name" }, title),
    svg("text", { x: width - 14, y: 24, class: "note", "text-anchor": "end" }, note),
    svg("text", { x: 14, y: 41, class: "note" }, says),
    svg("text", { x: 14, y: 58, class: "note done" }, done),
    ...squares,
  );
}

function describe(job) {
  const stages = job.stages.map((s) => {
    const from = s.stream ? `reads stream ${s.stream}` : `takes from ${s.inputs.map((i) => `stage ${i}`).join(", ")}`;
    return `stage ${s.stage}, ${plural(s.partitions, "partition")}, ${from}`;
  });
  return `Stage graph: ${stages.join("; ")}`;
}
