// A load generator that takes little of the processor it shares with the server: raw sockets that read into one buffer, and
// nothing of Sinter loaded. A program of its own: options as JSON on its standard input, the outcome as JSON on its output. Every
// answer's status, size and a sample of its numbers are checked against the first answer to the same bytes.
import { connect } from "node:net";

const SAMPLED = 16;
/** Batches of other sizes round elsewhere. */
const TOLERANCE = 1e-4;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What every connection reads into: bytes are looked at before the next read. */
const shared = Buffer.allocUnsafe(64 * 1024);

class Connection {
  constructor(port) {
    this.left = 0;
    this.head = Buffer.alloc(0);
    this.socket = connect({ port, host: "127.0.0.1", noDelay: true, onread: { buffer: shared, callback: (count) => {
      this.take(count);
      return true;
    } } });
  }

  /** @returns {Promise<number>} the status; what was sampled of the body is in `sample` */
  ask(bytes) {
    return new Promise((resolve) => {
      this.resolve = resolve;
      this.left = -1;
      this.socket.write(bytes);
    });
  }

  take(count) {
    if (this.left >= 0) this.left -= count;
    else {
      const chunk = this.head.length > 0 ? Buffer.concat([this.head, shared.subarray(0, count)]) : shared.subarray(0, count);
      const end = chunk.indexOf("\r\n\r\n");
      const json = end < 0 ? -1 : chunk.indexOf("}]", end);
      if (end < 0 || (json < 0 && chunk.indexOf("binary_data_size", end) >= 0)) {
        this.head = Buffer.from(chunk);
        return;
      }
      this.head = Buffer.alloc(0);
      const text = chunk.latin1Slice(0, end);
      this.status = Number(text.slice(9, 12));
      this.length = Number(/content-length: (\d+)/i.exec(text)[1]);
      this.left = end + 4 + this.length - chunk.length;
      this.sample = this.status === 200 ? sampleOf(chunk, end + 4 + Number(/inference-header-content-length: (\d+)/i.exec(text)[1])) : undefined;
    }
    if (this.left > 0) return;
    this.resolve(this.status);
  }
}

/** The first numbers of the body that are in the first chunk. */
function sampleOf(chunk, at) {
  const sample = [];
  for (let i = 0; i < SAMPLED && at + 4 * i + 4 <= chunk.length; i++) sample.push(chunk.readFloatLE(at + 4 * i));
  return sample;
}

/**
 * Closed loop without a rate; with one, Poisson arrivals that take a free connection, latency counted from the planned time.
 * @param options `bodies`: whole requests in base64, sent in turns; `most`: how many to send
 */
async function client({ port, bodies, rate, seconds = Number.POSITIVE_INFINITY, most = Number.POSITIVE_INFINITY, connections, latencies = true }) {
  const requests = bodies.map((text) => Buffer.from(text, "base64"));
  const expected = requests.map(() => undefined);
  const free = Array.from({ length: connections }, () => new Connection(port));
  const outcome = { sent: 0, ok: 0, refused: 0, other: 0, wrong: 0, latenciesMs: [] };
  const started = performance.now();
  const ask = async (connection, plannedMs) => {
    const which = outcome.sent++ % requests.length;
    const status = await connection.ask(requests[which]);
    if (status === 503) outcome.refused++;
    else if (status !== 200) outcome.other++;
    if (status !== 200) return;
    outcome.ok++;
    if (latencies) outcome.latenciesMs.push(performance.now() - plannedMs);
    const { sample, length } = connection;
    expected[which] ??= { sample, length };
    if (length !== expected[which].length || sample.some((value, i) => Math.abs(value - (expected[which].sample[i] ?? value)) > TOLERANCE)) outcome.wrong++;
  };
  if (rate === undefined) {
    await Promise.all(free.map(async (connection) => {
      while (performance.now() - started < seconds * 1000 && outcome.sent < most) await ask(connection, performance.now());
    }));
  } else {
    const open = new Set();
    for (let plannedMs = started; plannedMs - started < seconds * 1000 && outcome.sent < most; plannedMs += (-Math.log(1 - Math.random()) / rate) * 1000) {
      // Sleeps, not spins: the engine's threads need the processor. Lateness counts as latency.
      for (let leftMs = plannedMs - performance.now(); leftMs > 0; leftMs = plannedMs - performance.now()) await sleep(leftMs);
      const connection = free.pop() ?? new Connection(port);
      const done = ask(connection, plannedMs).then(() => {
        free.push(connection);
        open.delete(done);
      });
      open.add(done);
    }
    await Promise.all(open);
  }
  outcome.elapsedMs = performance.now() - started;
  const { user, system } = process.cpuUsage();
  outcome.cpuMs = (user + system) / 1000;
  for (const connection of free) connection.socket.destroy();
  return outcome;
}

let text = "";
for await (const chunk of process.stdin) text += chunk;
process.stdout.write(JSON.stringify(await client(JSON.parse(text))), () => process.exit(0));
