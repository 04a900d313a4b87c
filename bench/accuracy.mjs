// Do engines agree with onnxruntime? One line per model: the largest relative error (largest absolute difference over
// largest absolute value) over all outputs, at the optimum shape and at five others. Usage: npm run bench accuracy [WORD…]
import { openOnnxruntime, relativeError } from "../dist/cli/peer.js";
import { Engine } from "../dist/index.js";
import { engineOf, feedsOf } from "./engines.mjs";
import { chooseModels } from "./zoo.mjs";

const TOLERANCE = 1e-4;
let failed = 0;
for (const model of chooseModels(process.argv.slice(2))) {
  try {
    const { path } = await engineOf(model);
    const engine = await Engine.load(path, { threads: 2 });
    const errors = [];
    for (const shapes of [model.profile.opt, ...model.at]) {
      const feeds = feedsOf(model, engine, shapes);
      const actual = await engine.run(feeds);
      const peer = await openOnnxruntime(model.path, feeds, 2);
      const expected = await peer.run();
      await peer.release();
      errors.push(Math.max(...Object.keys(expected).map((name) => relativeError(actual[name], expected[name], 0))));
    }
    const steps = engine.metadata.steps;
    const references = steps.filter((step) => step.kind === "reference").map((step) => step.label.operators[0]);
    engine.dispose();
    const worst = Math.max(...errors);
    if (!(worst <= TOLERANCE)) failed++;
    console.log(`${worst <= TOLERANCE ? "ok  " : "FAIL"} ${model.name.padEnd(26)} ${errors.map((error) => error.toExponential(1)).join(" ")}  ${steps.length} steps, ${references.length} on the reference${references.length ? ` (${[...new Set(references)].join(", ")})` : ""}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${model.name}: ${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
