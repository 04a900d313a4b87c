/** The process of a GPU with an emulated one, for tests. The signal SIGUSR2 makes its next run end as an illegal access does. */
import { EmulatedGpu } from "../../native/cuda/testing.ts";
import { serveEngines } from "./process-engines.ts";

const gpu = new EmulatedGpu();
process.on("SIGUSR2", () => { gpu.faulty = true; });
serveEngines(() => gpu);
