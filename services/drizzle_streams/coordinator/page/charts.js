// Line charts on canvas by uPlot: colours from the style sheet, width from the page.

/* global uPlot */

const SPAN_S = 60;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Chart {
  // series: [{label, colour: "--name", width, dots, fill, dash}], y: how to write a value.
  constructor(host, { series, y, height, marks = () => [] }) {
    Object.assign(this, { host, series, y, height, marks, data: [[], ...series.map(() => [])] });
    new ResizeObserver(() => this.size()).observe(host);
    dark.addEventListener("change", () => this.build());
    this.build();
  }

  build() {
    this.plot?.destroy();
    const axis = { stroke: css("--soft"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: css("--line"), width: 1 };
    const options = {
      width: this.width,
      height: this.height,
      legend: { show: false },
      cursor: { show: false },
      padding: [10, 18, 0, 0],
      scales: {
        x: { range: () => this.range ?? [0, SPAN_S] },
        y: { range: (_, low, high) => [0, Math.max(this.least ?? 1, (high ?? 1) * 1.12)] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 26, splits: (_, __, least, most) => this.splits(least, most), values: (_, ticks) => ticks.map((t) => ago(t, this.range)) },
        { ...axis, grid, size: 52, space: this.height > 150 ? 34 : 26, values: (_, ticks) => ticks.map((v) => (v === 0 ? "0" : this.y(v))) },
      ],
      series: [{}, ...this.series.map(line)],
      hooks: { draw: [(plot) => this.mark(plot)] },
    };
    this.plot = new uPlot(options, this.data, this.host);
  }

  splits(least, most) {
    const step = this.width < 420 ? 20 : 10;
    return Array.from({ length: Math.ceil((most - least) / step) }, (_, i) => most - i * step).reverse();
  }

  get width() {
    return Math.max(200, this.host.clientWidth);
  }

  size() {
    if (this.plot.width !== this.width) this.plot.setSize({ width: this.width, height: this.height });
  }

  draw(data, now, least) {
    this.range = [now - SPAN_S, now];
    this.least = least;
    this.data = data;
    this.plot.setData(data);
  }

  // What happened meanwhile: a dashed line, with its sign on top.
  mark({ ctx, bbox, valToPos }) {
    ctx.save();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    let signed = -Infinity;
    for (const { at, sign, colour } of this.marks()) {
      if (!this.range || at < this.range[0] || at > this.range[1]) continue;
      const x = Math.round(this.plot.valToPos(at, "x", true));
      ctx.strokeStyle = ctx.fillStyle = css(colour);
      ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top + 8 * devicePixelRatio);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      if (x - signed < 12 * devicePixelRatio) continue; // signs are not written over each other
      signed = x;
      ctx.fillText(sign, x, bbox.top + 6 * devicePixelRatio);
    }
    ctx.restore();
  }
}

function line({ label, colour, width = 2, dots = false, fill = false, dash }) {
  const stroke = () => css(colour);
  return {
    label,
    stroke,
    dash,
    width: dots ? 0 : width,
    fill: fill ? () => `${css(colour)}26` : undefined,
    paths: dots ? () => null : undefined,
    points: dots ? { show: true, size: 3.5, width: 0, fill: stroke, stroke } : { show: false },
    spanGaps: true,
  };
}

function ago(at, range) {
  if (!range) return "";
  const seconds = Math.round(range[1] - at);
  return seconds <= 0 ? "now" : `−${seconds} s`;
}

// The last minute of something that is read at each tick.
export class Readings {
  constructor() {
    this.times = [];
    this.values = [];
  }

  reset() {
    this.times.length = this.values.length = 0;
  }

  add(at, value) {
    this.times.push(at);
    this.values.push(value);
    while (this.times.length && this.times[0] < at - SPAN_S - 1) {
      this.times.shift();
      this.values.shift();
    }
  }
}

export { SPAN_S };
