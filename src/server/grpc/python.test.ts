/** The gRPC front end with gRPC's C core: Debian's python3-grpcio, its messages made by protoc from `test/grpc/kserve.proto`. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { IdentityServer } from "../testing.ts";
import { GrpcFrontEnd } from "./front-end.ts";

const PYTHON = "/usr/bin/python3";
const files = join(dirname(fileURLToPath(import.meta.url)), "../../../test/grpc");
const able = existsSync(files) && spawnSync(PYTHON, ["-c", "import grpc, google.protobuf"]).status === 0 && spawnSync("protoc", ["--version"]).status === 0;

test("python3-grpcio", { skip: !able && "python3-grpcio, python3-protobuf or protobuf-compiler is not installed" }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "sinter-python-"));
  const server = new IdentityServer();
  const frontEnd = await GrpcFrontEnd.listen(server, { port: 0 });
  try {
    await promisify(execFile)("protoc", [`--proto_path=${files}`, `--python_out=${folder}`, "kserve.proto"]);
    const { stdout } = await promisify(execFile)(PYTHON, [join(files, "client.py"), String(frontEnd.port), folder], { timeout: 60_000 });
    assert.equal(stdout, "all well\n");
  } finally {
    await frontEnd.drain(500);
    rmSync(folder, { recursive: true, force: true });
  }
  assert.equal(server.claimed, 0);
});
