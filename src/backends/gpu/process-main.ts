/** The process that has a GPU for a server: see `process-engines.ts`. */
import { serveEngines } from "./process-engines.ts";

serveEngines();
