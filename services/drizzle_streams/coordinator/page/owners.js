// Every worker has a letter and a colour, the same wherever it is shown; the letter says it without the colour.

const COLOURS = 6;

export class Owners {
  constructor() {
    this.known = new Map();
  }

  // Ids of workers end in a number of their life, which says nothing to people.
  of(worker) {
    if (!this.known.has(worker)) {
      const used = new Set([...this.known.values()].map(({ number }) => number));
      let number = 0;
      while (used.has(number)) number += 1;
      this.known.set(worker, { number, letter: letter(number), colour: `owner-${number % COLOURS}` });
    }
    return this.known.get(worker);
  }

  keep(workers) {
    for (const worker of this.known.keys()) if (!workers.has(worker)) this.known.delete(worker);
  }
}

function letter(number) {
  const last = String.fromCharCode(65 + (number % 26));
  return number < 26 ? last : letter(Math.floor(number / 26) - 1) + last;
}
