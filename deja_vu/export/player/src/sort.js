// Order of the Gaussians from far to near: a stable radix sort of 24-bit keys in two passes.

const BUCKETS = 4096;

/** Sort by the first three bytes (lowest first) of every record of four bytes. */
export class Sorter {
  constructor(count) {
    this.count = count;
    this.order = Float32Array.from({ length: count }, (_, i) => i);
    this.between = new Uint32Array(count);
    this.begin = new Uint32Array(BUCKETS);
  }

  sort(bytes) {
    const { count, order, between, begin } = this;
    const keys = new Uint32Array(bytes.buffer, bytes.byteOffset, count);
    const pass = (shift, at, put) => {
      begin.fill(0);
      for (let i = 0; i < count; i++) begin[(keys[i] >>> shift) & (BUCKETS - 1)]++;
      for (let b = 0, sum = 0; b < BUCKETS; b++) {
        const size = begin[b];
        begin[b] = sum;
        sum += size;
      }
      for (let n = 0; n < count; n++) put(begin[(keys[at(n)] >>> shift) & (BUCKETS - 1)]++, at(n));
    };
    pass(0, (n) => n, (place, i) => (between[place] = i));
    pass(12, (n) => between[n], (place, i) => (order[place] = i));
  }
}
