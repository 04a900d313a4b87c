// Writes the reference pages that are made from the code: docs/CLI.md and docs/ERRORS.md.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

prepare();
const { commandReference, errorReference } = await import("../dist/cli/reference.js");
writeFileSync(join(root, "docs/CLI.md"), commandReference());
writeFileSync(join(root, "docs/ERRORS.md"), errorReference());
