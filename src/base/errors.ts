/**
 * The three kinds of error, never mixed: the user's (`UserError`), what Sinter refuses (`UnsupportedError`), and
 * bugs (`assert`). Every code of the first two is a row of the catalogue.
 * Text: where, what, expected and got, what to do.
 */

/** One row per error: its exit status, and what it means. */
export const ERRORS = {
  "tensor-data": { exit: 2, meaning: "A tensor's data does not fit its type or dims." },
  "not-onnx": { exit: 3, meaning: "The file is not an ONNX model." },
  "model-truncated": { exit: 3, meaning: "The model file ends before it should." },
  "model-invalid": { exit: 3, meaning: "The model breaks ONNX's rules; every problem found is listed." },
  "external-data": { exit: 3, meaning: "A file of external weights is missing, too short, or outside the model's folder." },
  "unknown-operator": { exit: 4, meaning: "The model uses an operator or domain that Sinter does not have." },
  "unsupported-opset": { exit: 4, meaning: "The model's opset is outside 7 to 25." },
  "unsupported": { exit: 4, meaning: "A valid request that Sinter cannot serve; the text says what works." },
  "unsupported-cpu": { exit: 4, meaning: "The processor lacks what Sinter or this engine needs." },
  "no-gpu": { exit: 4, meaning: "There is no NVIDIA GPU, no driver, or one that is too old." },
  "no-nvrtc": { exit: 4, meaning: "There is no compiler for CUDA C++, which building for a GPU needs." },
  "gpu-error": { exit: 6, meaning: "The GPU's driver refused a call; the text has CUDA's name for it." },
  "gpu-fault": { exit: 6, meaning: "The GPU ended a run (illegal address, memory error), or the process that has it ended. A server starts another; any other process goes on without the GPU." },
  "input-invalid": { exit: 2, meaning: "An input's name, type, rank or size is not what the model takes." },
  "shape-outside-profile": { exit: 2, meaning: "An input's shape lies outside the engine's profiles." },
  "profile-invalid": { exit: 2, meaning: "A profile's min, opt and max do not fit the model." },
  "engine-damaged": { exit: 3, meaning: "The engine file is cut short or its bytes were changed." },
  "engine-incompatible": { exit: 4, meaning: "The engine was built for another processor or a newer Sinter." },
  "option-invalid": { exit: 2, meaning: "A command-line or API option has a value it cannot have." },
  "file-io": { exit: 5, meaning: "A file could not be read or written." },
  "address-unusable": { exit: 5, meaning: "A server cannot listen where it was told to; the text says why." },
  "calibration-stale": { exit: 3, meaning: "A calibration cache is another model's, or lacks layers of this one." },
  "accuracy-target": { exit: 7, meaning: "No mix of precisions reached the accuracy asked for; the best engine found was kept." },
  "aborted": { exit: 130, meaning: "The work was cancelled." },
  "disposed": { exit: 2, meaning: "An engine or context was used after it was disposed." },
  "limit-exceeded": { exit: 6, meaning: "A stated bound was reached." },
  "config-invalid": { exit: 3, meaning: "A model's configuration has a field, value or bracket that the schema does not allow." },
  "config-mismatch": { exit: 3, meaning: "A model's configuration does not fit the model." },
  "model-missing": { exit: 3, meaning: "A model repository lacks the model, its versions or its file." },
  "model-changing": { exit: 5, meaning: "A model's files changed while they were read; it is read again when they rest." },
  "engine-untrusted": { exit: 4, meaning: "An engine is not signed by a key that this machine trusts." },
  "backend-failed": { exit: 6, meaning: "The process that runs or compiles a model ended or did not answer." },
  "mismatch": { exit: 1, meaning: "A comparison found a difference above its tolerance." },
} as const;

export type ErrorCode = keyof typeof ERRORS;

export class SinterError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = new.target.name;
  }
}

/** The caller's mistake: a bad model, file, option or request. */
export class UserError extends SinterError {}

/** A valid request that is not served; the message names what would work. */
export class UnsupportedError extends SinterError {}

/** What the system's own error codes say, in words. */
const FILE_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder", EACCES: "permission denied", EPERM: "not permitted", EISDIR: "it is a folder; expected a file",
  ENOTDIR: "a part of the path is a file; expected a folder", ENOSPC: "the disk is full", EROFS: "the file system is read-only", EMFILE: "too many files are open",
};

/** A file operation that failed. @param where the path, and what was to be done with it when that is not clear */
export function fileError(where: string, cause: unknown): UserError {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return new UserError("file-io", `${where}: ${FILE_PROBLEMS[code] ?? (cause instanceof Error ? cause.message : String(cause))}.`, { cause });
}

/** Throws when an invariant of ours is broken: a bug, never the user's fault. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`Bug in sinter: ${what}`);
}

/** For exhaustive switches: unreachable when the type checker is right. */
export function unreachable(value: never): never {
  throw new Error(`Bug in sinter: unexpected ${String(value)}`);
}
