// `npm start`: installs and builds when needed, then runs the demo. `npm start -- --once` ends by itself.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

prepare();
const result = spawnSync(process.execPath, [join(root, "dist/demo/main.js"), ...process.argv.slice(2)], { cwd: root, stdio: "inherit" });
process.exit(result.status ?? 1);
