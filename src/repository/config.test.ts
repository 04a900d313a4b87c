/** Configurations: real ones, wrong ones with the line that is told, the same in three spellings, and fuzz. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { UserError } from "../base/index.ts";
import { bind } from "./bind.ts";
import { completeFromModel, type ModelDescription } from "./complete.ts";
import { completeConfig, gpusOf, instancesOf, type ModelConfig } from "./config.ts";
import { MODEL_CONFIG } from "./schema.ts";
import { parseTextFormat } from "./text-format.ts";
import { chooseVersions } from "./versions.ts";
import { parseYaml } from "./yaml-format.ts";

const DENSENET = `# A comment
name: "densenet_onnx"
platform: "onnxruntime_onnx"
max_batch_size : 8
input [
  {
    name: "data_0"
    data_type: TYPE_FP32
    format: FORMAT_NCHW
    dims: [ 3, 224, 224 ]
    reshape { shape: [ 1, 3, 224, 224 ] }
  }
]
output {
  name: "fc6_1"; data_type: TYPE_FP32,
  dims: [ 1000 ]
  label_filename: "densenet_" 'labels.txt'
}
instance_group [ { count: 2 kind: KIND_CPU }, < kind: KIND_GPU gpus: [ 0, 1 ] > ]
dynamic_batching {
  preferred_batch_size: 4
  preferred_batch_size: [ 8 ]
  max_queue_delay_microseconds: 0x64
  priority_queue_policy { key: 1 value: { timeout_action: DELAY max_queue_size: 7 } }
}
parameters { key: "threads" value: { string_value: "2\\x41\\n" } }
version_policy: { specific: { versions: [ 1, 3 ] } }
model_warmup [ { name: "w" batch_size: 1 inputs { key: "data_0" value: { data_type: TYPE_FP32 dims: [3, 224, 224] zero_data: true } } } ]
`;

const YAML = `
name: densenet_onnx
platform: onnxruntime_onnx
maxBatchSize: 8
input:
  - { name: data_0, data_type: TYPE_FP32, format: FORMAT_NCHW, dims: [3, 224, 224], reshape: { shape: [1, 3, 224, 224] } }
output: { name: fc6_1, data_type: TYPE_FP32, dims: ["1000"], label_filename: densenet_labels.txt }
instance_group: [{ count: 2, kind: KIND_CPU }, { kind: KIND_GPU, gpus: [0, 1] }]
dynamic_batching:
  preferred_batch_size: [4, 8]
  max_queue_delay_microseconds: 100
  priority_queue_policy: { 1: { timeout_action: DELAY, max_queue_size: 7 } }
parameters: { threads: { string_value: "2A\\n" } }
version_policy: { specific: { versions: [1, 3] } }
model_warmup: [{ name: w, batch_size: 1, inputs: { data_0: { data_type: TYPE_FP32, dims: [3, 224, 224], zero_data: true } } }]
`;

const fromText = (text: string) => bind(MODEL_CONFIG, parseTextFormat(text, "config.pbtxt"));
const fromYaml = (text: string) => bind(MODEL_CONFIG, parseYaml(text, "config.yaml"));

test("a configuration says the same in text format, YAML and JSON", () => {
  const parsed = fromText(DENSENET);
  assert.deepEqual(parsed["dynamic_batching"], { preferred_batch_size: [4, 8], max_queue_delay_microseconds: 100, priority_queue_policy: { 1: { timeout_action: "DELAY", max_queue_size: 7 } } });
  assert.deepEqual(parsed["parameters"], { threads: { string_value: "2A\n" } });
  assert.deepEqual((parsed["output"] as unknown[])[0], { name: "fc6_1", data_type: "TYPE_FP32", dims: [1000], label_filename: "densenet_labels.txt" });
  assert.deepEqual(fromYaml(YAML), parsed);
  assert.deepEqual(fromYaml(JSON.stringify(parsed)), parsed);
});

const WRONG: readonly (readonly [string, RegExp])[] = [
  ['name: "a"\nmax_bach_size: 8', /config\.pbtxt:2: unknown field "max_bach_size" in ModelConfig; did you mean "max_batch_size"/],
  ["input {\n  name: \"x\"\n  data_type: TYPE_FLOAT32\n}", /:3: "data_type" is "TYPE_FLOAT32"; expected one of .*TYPE_FP32/],
  ["max_batch_size: 1.5", /:1: "max_batch_size" is 1.5; expected a int32/],
  ["max_batch_size: 3000000000", /expected a int32/],
  ['\n\nname: "a', /:3: this string has no end/],
  ["input {\n name: \"x\"", /:2: a message has no end: expected "}"/],
  ["max_batch_size: 1\nmax_batch_size: 2", /:2: "max_batch_size" is given twice; the first is on line 1/],
  ["dynamic_batching { }\nsequence_batching { }", /:2: ModelConfig takes one of dynamic_batching, sequence_batching, ensemble_scheduling/],
  ["name: resnet", /:1: "name" is resnet; expected a string in quotation marks/],
  ["input: 3", /:1: "input" is a ModelInput: write input \{ … \}/],
  ["version_policy { latest { } all { } }", /takes one of latest, all, specific/],
  ["parameters { name: \"x\" }", /unknown field "name" in an entry of "parameters"/],
  ["max_batch_size 8", /:1: expected ":" or "\{" after "max_batch_size"/],
  ["max_batch_size: &", /:1: unexpected character "&"/],
];

test("what is wrong is told with its line and what was expected", () => {
  for (const [text, expected] of WRONG) assert.throws(() => fromText(text), (error) => error instanceof UserError && error.code === "config-invalid" && expected.test(error.message), text);
  assert.throws(() => fromYaml("name: a\nmax_batch: 8"), /config\.yaml:2: unknown field "max_batch"/);
  assert.throws(() => fromYaml("a: &x 1\nb: *x"), /config\.yaml/);
  assert.throws(() => fromYaml("- 1"), /expected fields and their values/);
});

const MODEL: ModelDescription = {
  inputs: [{ name: "ids", dtype: "int64", dims: ["batch", "seq"] }],
  outputs: [{ name: "logits", dtype: "float32", dims: ["batch", 2] }],
};

test("a model without a configuration describes itself, as Triton's rules say", () => {
  const config = completeFromModel({ name: "m" }, MODEL, 4);
  assert.equal(config.max_batch_size, 4);
  assert.deepEqual(config.dynamic_batching, {});
  assert.deepEqual(config.input, [{ name: "ids", data_type: "TYPE_INT64", dims: [-1] }]);
  assert.deepEqual(config.output, [{ name: "logits", data_type: "TYPE_FP32", dims: [2] }]);
  const fixed = completeFromModel({ name: "m" }, { ...MODEL, outputs: [{ name: "logits", dtype: "float32", dims: [1, 2] }] }, 4);
  assert.equal(fixed.max_batch_size, 0);
  assert.deepEqual(fixed.input?.[0]?.dims, [-1, -1]);
});

test("a configuration that does not fit its model is refused", () => {
  const input = (dims: number[], data_type = "TYPE_INT64"): ModelConfig => ({ name: "m", max_batch_size: 8, input: [{ name: "ids", data_type, dims }] });
  assert.doesNotThrow(() => completeFromModel(input([-1]), MODEL, 4));
  assert.throws(() => completeFromModel(input([16, 16]), MODEL, 4), /the model expects shape \[-1,-1\], the configuration gives \[-1,16,16\]/);
  assert.throws(() => completeFromModel(input([-1], "TYPE_FP32"), MODEL, 4), /data_type TYPE_FP32; the model's is TYPE_INT64/);
  assert.throws(() => completeFromModel({ ...input([-1]), input: [{ name: "x", data_type: "TYPE_FP32", dims: [1] }] }, MODEL, 4), /unexpected input "x"/);
});

test("all defaults are written out, choices only where they were made", () => {
  const config = completeConfig({ name: "m", input: [{ name: "x", data_type: "TYPE_FP32", dims: [1] }] });
  assert.deepEqual(config["version_policy"], { latest: { num_versions: 1 } });
  assert.equal(config["max_batch_size"], 0);
  assert.deepEqual(config["instance_group"], [{ name: "m", kind: "KIND_CPU", count: 1, gpus: [], secondary_devices: [], profile: [], passive: false, host_policy: "" }]);
  assert.equal("dynamic_batching" in config, false);
});

test("version policies", () => {
  assert.deepEqual(chooseVersions({ name: "m" }, [3, 1, 2]), [3]);
  assert.deepEqual(chooseVersions({ name: "m", version_policy: { latest: { num_versions: 2 } } }, [3, 1, 2]), [2, 3]);
  assert.deepEqual(chooseVersions({ name: "m", version_policy: { all: {} } }, [3, 10, 2]), [2, 3, 10]);
  assert.deepEqual(chooseVersions({ name: "m", version_policy: { specific: { versions: [1, 7] } } }, [3, 1, 2]), [1]);
});

test("no text makes the parsers crash, hang or throw what is not a refusal", (context) => {
  const seed = Number(process.env["SINTER_FUZZ_SEED"] ?? Date.now() % 2 ** 31);
  context.diagnostic(`seed ${seed}`);
  let state = seed | 1;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const pieces = [...DENSENET.split(/\s+/), "{", "}", "[", "]", "<", ">", ":", ",", ";", "-", '"', "'", "\\", "#", "\n", "\0", "é", "1e999", "-inf", "0x", "{".repeat(40), "*a", "&a", "? "];
  for (let i = 0; i < 10_000; i++) {
    const source = i % 2 === 0 ? DENSENET : YAML;
    const at = random(source.length);
    const mutated = i % 4 < 2 ? source.slice(0, at) + pieces[random(pieces.length)]! + source.slice(at + random(6)) : Array.from({ length: random(40) }, () => pieces[random(pieces.length)]).join(random(2) ? " " : "");
    try {
      completeConfig(((i & 1) === 0 ? fromText : fromYaml)(mutated) as unknown as ModelConfig);
    } catch (error) {
      assert.ok(error instanceof UserError && /^config\.(pbtxt|yaml):\d+: /.test(error.message), `seed ${seed}, case ${i}: ${error instanceof Error ? error.stack : error}\n${mutated}`);
    }
  }
});

test("instances and GPUs as a configuration asks for them", () => {
  const asked = (instance_group: ModelConfig["instance_group"]): object => ({ gpus: gpusOf({ name: "m", ...(instance_group ? { instance_group } : {}) }), instances: instancesOf({ name: "m", ...(instance_group ? { instance_group } : {}) }) });
  assert.deepEqual(asked(undefined), { gpus: undefined, instances: undefined });
  assert.deepEqual(asked([{ kind: "KIND_CPU" }, { count: 3 }]), { gpus: undefined, instances: 4 });
  assert.deepEqual(asked([{ kind: "KIND_GPU" }]), { gpus: [0], instances: undefined });
  assert.deepEqual(asked([{ kind: "KIND_GPU", count: 2, gpus: [1, 3] }, { kind: "KIND_GPU", count: 1, gpus: [3] }]), { gpus: [1, 3], instances: 5 });
});
