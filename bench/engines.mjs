// Builds (or reuses) the engine of a model of the zoo, in .cache/engines.
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { makeFeeds } from "../dist/cli/feeds.js";
import { build, Tensor, VERSION } from "../dist/index.js";
import { textPictures } from "./pictures.mjs";
import { profileOf, root } from "./zoo.mjs";

const folder = join(root, ".cache/engines");

/** @returns {Promise<{path: string, buildMs: number | undefined}>} */
export async function engineOf(model, { level = 3, rebuild = false, precision = "fp32", fastConvolution = false } = {}) {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${model.name}-${VERSION}-l${level}${precision === "fp32" ? "" : `-${precision}`}${fastConvolution ? "-fast" : ""}${process.env.SINTER_CPU ? `-${process.env.SINTER_CPU}` : ""}.engine`);
  const newest = statSync(join(root, "dist/index.js")).mtimeMs;
  if (!rebuild && existsSync(path) && statSync(path).mtimeMs > newest) return { path, buildMs: undefined };
  const result = await build(model.path, { output: path, level, precision, fastConvolution, profiles: [profileOf(model)], timingCache: join(folder, "timings.json") });
  return { path, buildMs: result.elapsedMs };
}

/** Seeded random inputs of these shapes; inputs whose value decides what the model does have the zoo's. */
export function feedsOf(model, engine, shapes, seed = 1) {
  const feeds = makeFeeds(engine.inputs, { shapes, files: [], seed }, {});
  for (const [name, value] of Object.entries(model.values ?? {})) feeds[name] = new Tensor(feeds[name].type, [value], feeds[name].dims);
  const { pictures } = model;
  if (pictures) feeds[pictures] = new Tensor("float32", textPictures(root, feeds[pictures].dims), feeds[pictures].dims);
  return feeds;
}
