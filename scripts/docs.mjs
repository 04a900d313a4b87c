// Writes the reference pages that are made from the code: docs/CLI.md, docs/ERRORS.md and docs/OPERATORS.md.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { prepare, root } from "./prepare.mjs";

prepare();
const { commandReference, errorReference, operatorReference } = await import("../dist/cli/reference.js");
writeFileSync(join(root, "docs/CLI.md"), commandReference());
writeFileSync(join(root, "docs/ERRORS.md"), errorReference());
writeFileSync(join(root, "docs/OPERATORS.md"), operatorReference());
