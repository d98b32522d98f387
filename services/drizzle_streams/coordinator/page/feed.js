// The live feed: connects, comes back, and always knows how old what it shows is.
//
// States: connecting · live · stale (connected, but silent) · lost (trying again) · out (signed out).

const STALE_AFTER_MS = 2500;
const AGAIN_AFTER_MS = 2000;

export class Feed {
  constructor({ onCluster, onJob, onState }) {
    this.onCluster = onCluster;
    this.onJob = onJob;
    this.onState = onState;
    this.job = "";
    this.heardAt = 0;
    this.state = "connecting";
    setInterval(() => this.look(), 250);
  }

  open(job = this.job) {
    this.job = job;
    this.events?.close();
    clearTimeout(this.again);
    const events = new EventSource(`/console/feed${job ? `?job=${encodeURIComponent(job)}` : ""}`);
    this.events = events;
    events.addEventListener("cluster", (event) => {
      this.heardAt = performance.now();
      this.set("live");
      this.onCluster(JSON.parse(event.data));
    });
    events.addEventListener("job", (event) => this.onJob(JSON.parse(event.data)));
    events.addEventListener("error", () => {
      this.set("lost");
      // The browser comes back by itself after a lost connection, but not after a refusal.
      if (events.readyState === EventSource.CLOSED) this.ask();
    });
  }

  // Refused or unreachable: find out which.
  async ask() {
    try {
      const answer = await fetch("/status", { cache: "no-store", credentials: "same-origin" });
      if (answer.status === 401 || answer.status === 403) return this.set("out");
      if (answer.status === 503) return location.reload(); // it stands by now, and its page says so
    } catch {
      // Nobody answers: try again below.
    }
    this.again = setTimeout(() => this.open(), AGAIN_AFTER_MS);
  }

  get age() {
    return this.heardAt ? performance.now() - this.heardAt : null;
  }

  look() {
    if (this.state === "live" && this.age > STALE_AFTER_MS) this.set("stale");
    this.onState(this.state, this.age);
  }

  set(state) {
    if (this.state === "out") return;
    this.state = state;
    this.onState(state, this.age);
  }
}
