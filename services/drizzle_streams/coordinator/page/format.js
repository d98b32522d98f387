// Numbers and times as people read them. A value that is not known is a dash.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTH = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];

export const NONE = "–";

// How late the oldest batch is when all is well: it takes a batch or two, and workers report now and then.
export const patience = (job) => 2 * (job.batch_interval_ms + job.report_ms);

export const count = (n) => (n === null || n === undefined ? NONE : WHOLE.format(n));

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

// [figure, unit], so that units can be set smaller.
export function duration(ms) {
  if (ms === null || ms === undefined) return [NONE, ""];
  if (ms < 99.95) return [Number.isInteger(ms) ? WHOLE.format(ms) : TENTH.format(ms), "ms"];
  if (ms < 1000) return [WHOLE.format(ms), "ms"];
  if (ms < 60_000) return [TENTH.format(ms / 1000), "s"];
  if (ms < 3_600_000) return [`${Math.floor(ms / 60_000)}:${pad((ms / 1000) % 60)}`, "min"];
  if (ms < 172_800_000) return [`${Math.floor(ms / 3_600_000)}:${pad((ms / 60_000) % 60)}`, "h"];
  return [WHOLE.format(ms / 86_400_000), "days"];
}

export const span = (ms) => duration(ms).join(" ").trim();

export function bytes(n) {
  if (n === null || n === undefined) return [NONE, ""];
  let power = 0;
  while (n >= 1024 && power < SIZES.length - 1) [n, power] = [n / 1024, power + 1];
  return [power ? TENTH.format(n) : WHOLE.format(n), SIZES[power]];
}

export const percent = (ratio, digits = 0) => `${(ratio * 100).toFixed(digits)} %`;

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });

const pad = (n) => String(Math.floor(n)).padStart(2, "0");

export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

export function quantile(ranked, share) {
  return ranked[Math.min(ranked.length - 1, Math.max(0, Math.ceil(share * ranked.length) - 1))];
}
