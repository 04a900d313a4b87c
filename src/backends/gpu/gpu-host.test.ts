/** Engines for a GPU behind the server: they run in another process, whose end no client feels for long. */
import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { build } from "../../compile.ts";
import { EmulatedGpu, hasHostCompiler, hostCompiler } from "../../native/cuda/testing.ts";
import { type InferenceServer, ServingError } from "../../server/contract.ts";
import { floatInput, floatsOf, request, testRepository, testServer } from "../../server/models/testing.ts";
import { floats, mlp, mlpReference } from "../../testing/small-models.ts";
import { signEngine } from "../../trust/index.ts";

const gpuModule = new URL("./testing.js", import.meta.url);
const ROWS = 2;
const x = floats(ROWS * 16);
const expected = mlpReference(x, ROWS);

async function ask(server: InferenceServer, model = "mlp"): Promise<void> {
  const response = await server.infer(request(model, [floatInput("x", [...x], [ROWS, 16])]));
  const values = floatsOf(response.outputs[0]!);
  response.release();
  assert.deepEqual(response.outputs[0]!.shape, [ROWS, 8]);
  values.forEach((value, i) => assert.ok(Math.abs(value - expected[i]!) < 1e-5, `[${i}] is ${value}, expected ${expected[i]}`));
}

/** Whether it was refused, as "unavailable" and for that reason. */
async function isRefused(asked: Promise<void>, reason: RegExp): Promise<boolean> {
  return asked.then(() => false, (error: unknown) => {
    assert.ok(error instanceof ServingError && error.status === "UNAVAILABLE" && reason.test(error.message), String(error));
    return true;
  });
}

function gpuProcesses(): number[] {
  return readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, "utf8").trim().split(" ").filter((id) => id !== "" && readFileSync(`/proc/${id}/cmdline`, "utf8").includes("gpu/testing.js")).map(Number);
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 1500; i++) {
    if (await condition()) return;
    await delay(20);
  }
  assert.fail(`not in 30 s: ${what}`);
}

describe("the process of a GPU", { skip: !hasHostCompiler && "no g++ here" }, () => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-gpu-host-"));
  const engine = join(folder, "mlp.engine");
  before(() => build(mlp(), { output: engine, target: "cuda", gpu: new EmulatedGpu(), cudaCompiler: hostCompiler, level: 0 }));
  after(() => rmSync(folder, { recursive: true }));

  function repositoryOf(models: readonly string[]): ReturnType<typeof testRepository> {
    const repository = testRepository();
    for (const name of models) {
      const version = join(repository.folder, name, "1");
      mkdirSync(version, { recursive: true });
      copyFileSync(engine, join(version, "model.engine"));
      signEngine(join(version, "model.engine"), repository.keys);
    }
    return repository;
  }

  test("one process serves all models, and ends with the last of them", async () => {
    using repository = repositoryOf(["mlp", "other"]);
    await using running = await testServer(repository, { gpuModule, mode: "explicit", load: ["*"] });
    const { server, store } = running;
    await Promise.all(Array.from({ length: 40 }, (_, i) => ask(server, i % 2 === 0 ? "mlp" : "other")));
    assert.equal(gpuProcesses().length, 1);
    assert.match(store.serving("mlp")[0]!.summary, /emulated in a process of its own/);
    const [memory] = store.serving("mlp")[0]!.statistics().memory;
    assert.ok(memory!.type === "GPU" && memory!.byteSize > 4096, "its memory on the GPU is counted");
    await assert.rejects(server.infer(request("mlp", [floatInput("x", [1], [1, 1])])), (error: unknown) => error instanceof ServingError && error.status === "INVALID_ARG");
    await server.unloadModel("mlp", false);
    await ask(server, "other");
    await server.unloadModel("other", false);
    await until(() => gpuProcesses().length === 0, "the process ends");
  });

  test("killed in the middle of requests: those are told, later ones are answered", async () => {
    using repository = repositoryOf(["mlp"]);
    await using running = await testServer(repository, { gpuModule });
    const [first] = gpuProcesses();
    let [refused, answered, done] = [0, 0, false];
    const client = async (): Promise<void> => {
      while (!done) {
        if (await isRefused(ask(running.server), /^GPU 0: the process that runs it ended \(SIGKILL\)/)) refused++;
        else answered++;
      }
    };
    const clients = Array.from({ length: 8 }, client);
    await until(() => answered > 100, "requests are answered");
    process.kill(first!, "SIGKILL");
    await until(() => refused > 0, "requests in flight are told");
    const before = answered;
    await until(() => answered > before + 100, "requests are answered again");
    done = true;
    await Promise.all(clients);
    const [second, ...others] = gpuProcesses();
    assert.ok(second !== undefined && second !== first && others.length === 0);
    assert.ok(refused <= 8, `${refused} refused: only what was in flight`);
  });

  test("a fault ends the requests in flight and the process, not the server", async () => {
    using repository = repositoryOf(["mlp"]);
    await using running = await testServer(repository, { gpuModule });
    const [first] = gpuProcesses();
    process.kill(first!, "SIGUSR2");
    await until(() => isRefused(ask(running.server), /^GPU: a run ended with CUDA_ERROR_ILLEGAL_ADDRESS/), "the fault");
    await ask(running.server);
    assert.notEqual(gpuProcesses()[0], first);
  });

  test("one that keeps dying rests; the model beside the engine stands in on the processor", async () => {
    using repository = repositoryOf(["mlp", "alone"]);
    repository.write("mlp/1/model.onnx", mlp());
    repository.write("mlp/config.pbtxt", 'default_model_filename: "model.engine"\n');
    await using running = await testServer(repository, { gpuModule });
    for (let deaths = 0; deaths < 3; deaths++) {
      await until(() => gpuProcesses().length > 0, "a process");
      for (const id of gpuProcesses()) process.kill(id, "SIGKILL");
      await until(() => gpuProcesses().length === 0 || deaths === 0, "its end");
    }
    assert.ok(await isRefused(ask(running.server, "alone"), /ended \d times in a short while; another is started in \d s/));
    await until(async () => !(await isRefused(ask(running.server), /GPU 0/)) && gpuProcesses().length === 0, "an answer without a process");
    await until(() => gpuProcesses().length === 1, "another process");
    await ask(running.server, "alone");
    await ask(running.server);
  });

  test("a model that asks for a GPU where there is none runs on the processor", async () => {
    using repository = testRepository();
    repository.write("mlp/1/model.onnx", mlp());
    repository.write("mlp/config.pbtxt", "instance_group [ { kind: KIND_GPU } ]\n");
    const before = process.env["CUDA_VISIBLE_DEVICES"];
    process.env["CUDA_VISIBLE_DEVICES"] = "";
    try {
      await using running = await testServer(repository);
      await ask(running.server);
      assert.equal(gpuProcesses().length, 0);
    } finally {
      if (before === undefined) delete process.env["CUDA_VISIBLE_DEVICES"];
      else process.env["CUDA_VISIBLE_DEVICES"] = before;
    }
  });

  test("batches of every size: their outputs are fetched once, and lie in place from then on", async () => {
    using repository = repositoryOf(["mlp"]);
    await using running = await testServer(repository, { gpuModule, defaultMaxBatch: 16 });
    for (let round = 1; round <= 12; round++) await Promise.all(Array.from({ length: round }, () => ask(running.server)));
  });
});
