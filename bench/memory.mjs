// How much memory does an engine take while it runs, and how large are its weights? Each in a process of its own.
// Bounds: the process grows by at most 1.1 times (weight section + arena); the section is at most 1.15 times the model's weights,
// 1.5 with --fast-convolution. Usage: npm run bench memory [WORD…] [--fast-convolution]
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { EngineFile } from "../dist/engine/index.js";
import { Engine } from "../dist/index.js";
import { engineOf, feedsOf } from "./engines.mjs";
import { parseArguments } from "./side-by-side.mjs";
import { chooseModels, ZOO } from "./zoo.mjs";

const { flags, words } = parseArguments();
const residentBytes = () => 1024 * Number(readFileSync("/proc/self/status", "utf8").match(/VmRSS:\s+(\d+)/)[1]);

/** In the child: how much the process grows from before the load until after some runs. */
async function grow(path, name) {
  const model = ZOO.find((one) => one.name === name);
  await Engine.load(path, { threads: 1 }).then((engine) => engine.dispose());
  globalThis.gc();
  const before = residentBytes();
  const engine = await Engine.load(path, { threads: 1 });
  const context = engine.createContext();
  const feeds = feedsOf(model, engine, model.profile.opt);
  for (let i = 0; i < 5; i++) await context.run(feeds);
  globalThis.gc();
  console.log(JSON.stringify({ grown: residentBytes() - before, arena: context.memoryBytes }));
  process.exit(0);
}

if (flags.child) await grow(flags.child, flags.name);
const MiB = 2 ** 20;
const fastConvolution = "fast-convolution" in flags;
const mostWeights = fastConvolution ? 1.5 : 1.15;
console.log("model".padEnd(26), "model's weights", "section", "ratio", "arena", "grown by", "of section + arena   (MiB)");
let kept = true;
for (const model of chooseModels(words)) {
  const { path } = await engineOf(model, { fastConvolution });
  const file = EngineFile.open(path);
  const [section, weights] = [file.sizeOf("weights"), file.manifest().modelWeightBytes];
  file.close();
  const child = spawnSync(process.execPath, ["--expose-gc", fileURLToPath(import.meta.url), `--child=${path}`, `--name=${model.name}`], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  const { grown, arena } = JSON.parse(child.stdout);
  const [ratio, share] = [section / weights, grown / (section + arena)];
  const good = ratio <= mostWeights && share <= 1.1;
  kept &&= good;
  console.log(model.name.padEnd(26), (weights / MiB).toFixed(1).padStart(15), (section / MiB).toFixed(1).padStart(7), ratio.toFixed(3).padStart(5), (arena / MiB).toFixed(1).padStart(5), (grown / MiB).toFixed(1).padStart(8), share.toFixed(3).padStart(8), good ? "" : "  over a bound");
}
process.exit(kept ? 0 : 1);
