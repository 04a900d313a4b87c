// A load generator that takes little of the processor it shares with the server: raw sockets that read into one buffer, and
// nothing of Sinter loaded. A program of its own: prints its outcome as JSON. Every answer's status, size and a sample of its
// numbers are checked against the first answer to the same bytes.
// Usage: node client.mjs '{"port":…,"model":…,"tokens":[16],"connections":64,"seconds":10 | "requests":N,"rate":…}'
import { connect } from "node:net";
import { pathToFileURL } from "node:url";

const VARIANTS = 16;
const SAMPLED = 16;
/** Batches of other sizes round elsewhere. */
const TOLERANCE = 1e-4;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function requestBytes(model, seed, tokens) {
  const ids = BigInt64Array.from({ length: tokens }, (_, i) => BigInt(1000 + ((seed * 31 + i * 17) % 20000)));
  const tensors = [["input_ids", ids], ["attention_mask", new BigInt64Array(tokens).fill(1n)], ["token_type_ids", new BigInt64Array(tokens)]];
  const json = JSON.stringify({ inputs: tensors.map(([name, data]) => ({ name, datatype: "INT64", shape: [1, tokens], parameters: { binary_data_size: data.byteLength } })), parameters: { binary_data_output: true } });
  const body = Buffer.concat([Buffer.from(json), ...tensors.map(([, data]) => Buffer.from(data.buffer))]);
  return Buffer.concat([Buffer.from(`POST /v2/models/${model}/infer HTTP/1.1\r\nHost: sinter\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: ${Buffer.byteLength(json)}\r\nContent-Length: ${body.length}\r\n\r\n`), body]);
}

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
 * @param options `tokens`: lengths that requests have in turns
 */
export async function client({ port, model, rate, seconds = Number.POSITIVE_INFINITY, requests: most = Number.POSITIVE_INFINITY, connections, tokens = [16] }) {
  const requests = Array.from({ length: VARIANTS * tokens.length }, (_, i) => requestBytes(model, i, tokens[i % tokens.length]));
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
    outcome.latenciesMs.push(performance.now() - plannedMs);
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

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.stdout.write(JSON.stringify(await client(JSON.parse(process.argv[2]))), () => process.exit(0));
}
