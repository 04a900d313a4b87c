/** Models of no file: their outputs are their inputs, after a time that can be set. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ModelConfig } from "../../repository/index.ts";
import { NativePool } from "../engine/native-pool.ts";
import { IdentityBackend } from "./identity-backend.ts";

const CONFIG: ModelConfig = {
  name: "echo", backend: "identity", max_batch_size: 4,
  input: [{ name: "a", data_type: "TYPE_INT32", dims: [-1] }, { name: "b", data_type: "TYPE_STRING", dims: [1], reshape: { shape: [] } }],
  output: [{ name: "c", data_type: "TYPE_INT32", dims: [-1] }, { name: "d", data_type: "TYPE_STRING", dims: [1], reshape: { shape: [] } }],
};

const source = (config: ModelConfig) => ({ name: config.name, version: 1, folder: "/nowhere", config });

test("outputs are copies of the inputs in their places, in their shapes", async () => {
  const backend = new IdentityBackend(new NativePool());
  assert.equal(backend.find(source({ ...CONFIG, backend: "" })), undefined, "only for models that name it");
  const model = await backend.load(source(CONFIG));
  assert.deepEqual(model.description.inputs.map(({ name, dtype, dims }) => [name, dtype, dims]), [["a", "int32", [null, null]], ["b", "string", [null]]]);
  const instance = await model.createInstance();
  const bytes = instance.stage(0, 8);
  bytes.set([1, 2, 3, 4, 5, 6, 7, 8]);
  const results = await instance.execute([{ bytes, shape: [1, 2] }, { bytes: Uint8Array.of(1, 0, 0, 0, 65), shape: [1] }]);
  bytes.fill(0);
  assert.deepEqual(results.outputs.map(({ bytes: own, shape }) => [[...own], shape]), [[[1, 2, 3, 4, 5, 6, 7, 8], [1, 2]], [[1, 0, 0, 0, 65], [1]]]);
  results.release();
  await assert.rejects(instance.execute([undefined, undefined]), /whose input the request left out/);
});

test("a batch takes as long as the configuration says, on later instances longer", async () => {
  const parameters = { execute_delay_ms: { string_value: "30" }, instance_wise_delay_multiplier: { string_value: "3" } };
  const model = await new IdentityBackend(new NativePool()).load(source({ ...CONFIG, parameters }));
  const [first, second] = [await model.createInstance(), await model.createInstance()];
  const elapsed = async (instance: typeof first): Promise<number> => {
    const before = performance.now();
    (await instance.execute([])).release();
    return performance.now() - before;
  };
  assert.ok((await elapsed(first)) >= 29);
  assert.ok((await elapsed(second)) >= 89);
});

test("what is no pair, or no time, is refused", async () => {
  const refused = (more: Partial<ModelConfig>, text: RegExp): Promise<void> => assert.rejects(new IdentityBackend(new NativePool()).load(source({ ...CONFIG, ...more })), text);
  await refused({ input: [], output: [] }, /has no file to derive a configuration from/);
  await refused({ output: CONFIG.output!.slice(1) }, /has 2 inputs and 1 outputs/);
  await refused({ output: [...CONFIG.output!].reverse() }, /output "d" is TYPE_STRING; its input "a" is TYPE_INT32/);
  await refused({ parameters: { execute_delay_ms: { string_value: "-1" } } }, /parameter "execute_delay_ms" is "-1"; expected a number from 0 to 600000/);
});
