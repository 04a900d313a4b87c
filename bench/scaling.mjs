// What do two threads gain over one, beside what the machine's own multiply-adds gain on two threads in the same rounds?
// Usage: npm run bench scaling [WORD…] [--seconds=N] [--threads=2]
import { Engine } from "../dist/index.js";
import { engineOf, feedsOf } from "./engines.mjs";
import { machine, median, parseArguments, PeakMeter, sleep, timed } from "./side-by-side.mjs";
import { chooseModels } from "./zoo.mjs";

const { flags, words } = parseArguments();
const seconds = Number(flags.seconds ?? 4);
const threads = Number(flags.threads ?? 2);
const GOAL = 0.95;
const TRANSFORMERS = ["bert-base", "bart-large", "t5-small", "gpt2", "minilm"];
const [one, several] = [new PeakMeter(1), new PeakMeter(threads)];

console.log(machine);
console.log("model".padEnd(26), "1 thread ms", `${threads} threads ms`, "times faster", "multiply-adds", "share");
for (const model of chooseModels(words.length > 0 ? words : TRANSFORMERS)) {
  const { path } = await engineOf(model);
  const engines = [await Engine.load(path, { threads: 1 }), await Engine.load(path, { threads })];
  const runs = engines.map((engine) => {
    const context = engine.createContext();
    const feeds = feedsOf(model, engine, model.profile.opt);
    return timed(() => context.run(feeds));
  });
  const rounds = [];
  for (const run of runs) await run();
  const started = performance.now();
  while (performance.now() - started < seconds * 1000 || rounds.length < 5) {
    const peaks = [one.sample(), several.sample()];
    rounds.push({ alone: await runs[0](), together: await runs[1](), peaks });
    await sleep(5);
  }
  const best = [0, 1].map((i) => Math.max(...rounds.map(({ peaks }) => peaks[i])));
  const kept = rounds.filter(({ peaks }) => peaks.every((peak, i) => peak >= 0.9 * best[i]));
  const [alone, together] = [median(kept.map((round) => round.alone)), median(kept.map((round) => round.together))];
  const machineGain = median(kept.map(({ peaks }) => peaks[1] / peaks[0]));
  const share = alone / together / machineGain;
  console.log(model.name.padEnd(26), alone.toFixed(3).padStart(11), together.toFixed(3).padStart(12), (alone / together).toFixed(3).padStart(12), machineGain.toFixed(3).padStart(13), `${(100 * share).toFixed(1)} %${share < GOAL ? `, under ${100 * GOAL} %` : ""} (${kept.length}/${rounds.length} rounds)`);
  for (const engine of engines) engine.dispose();
}
process.exit(0);
