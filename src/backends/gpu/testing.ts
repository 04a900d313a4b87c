/** The process of a GPU with an emulated one, for tests. The signal SIGUSR2 makes its next run end as an illegal access does. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EmulatedGpu } from "../../native/cuda/testing.ts";
import { serveEngines } from "./process-engines.ts";

/** Each test starts several processes with the same few kernels. */
const gpu = new EmulatedGpu(75, join(tmpdir(), `sinter-test-kernels-${process.getuid?.() ?? 0}`));
process.on("SIGUSR2", () => { gpu.faulty = true; });
serveEngines(() => gpu);
