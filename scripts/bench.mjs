// `npm run bench [NAME] [ARGUMENTS…]`: runs bench/NAME.mjs, `models` by default.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

prepare();
const [first, ...rest] = process.argv.slice(2);
const named = first !== undefined && existsSync(join(root, "bench", `${first}.mjs`));
const result = spawnSync(process.execPath, [join(root, "bench", `${named ? first : "models"}.mjs`), ...(named ? rest : process.argv.slice(2))], { cwd: root, stdio: "inherit" });
process.exit(result.status ?? 1);
