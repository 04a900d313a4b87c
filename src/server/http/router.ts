/**
 * Paths of KServe v2 with Triton's extensions, taken apart by hand: no pattern runs per request, and the paths of recent requests are
 * remembered whole.
 */

export type RouteKind =
  | "live" | "ready" | "server" | "metadata" | "modelReady" | "config" | "statistics" | "infer" | "generate" | "generateStream" | "trace" | "logging"
  | "index" | "load" | "unload" | "systemStatus" | "systemRegister" | "systemUnregister" | "cudaStatus" | "cudaRegister" | "cudaUnregister";

export interface Route {
  readonly kind: RouteKind;
  readonly model: string;
  readonly version: string;
  /** A shared memory region, or a repository's name. */
  readonly name: string;
}

const MOST_REMEMBERED = 1024;
const MODEL_ACTIONS: Readonly<Record<string, RouteKind>> = {
  "": "metadata", ready: "modelReady", config: "config", stats: "statistics", infer: "infer", generate: "generate", generate_stream: "generateStream", "trace/setting": "trace",
};
const FIXED: Readonly<Record<string, RouteKind>> = {
  "": "server", "health/live": "live", "health/ready": "ready", "models/stats": "statistics", "trace/setting": "trace", logging: "logging", "repository/index": "index",
};
const REGION_ACTIONS = ["status", "register", "unregister"] as const;

export class Router {
  readonly #remembered = new Map<string, Route>();

  /** @returns undefined for a path that there is not */
  route(url: string): Route | undefined {
    const known = this.#remembered.get(url);
    if (known !== undefined) return known;
    const route = parse(url);
    if (route !== undefined) {
      if (this.#remembered.size >= MOST_REMEMBERED) this.#remembered.clear();
      this.#remembered.set(url, route);
    }
    return route;
  }
}

function parse(url: string): Route | undefined {
  const query = url.search(/[?#]/);
  const path = query < 0 ? url : url.slice(0, query);
  const parts = path.split("/");
  if (parts[0] !== "" || parts[1] !== "v2") return undefined;
  const names: string[] = [];
  for (const part of parts.slice(2)) {
    const name = decode(part);
    if (name === undefined) return undefined;
    names.push(name);
  }
  if (names.at(-1) === "") names.pop();
  const fixed = names.join("/");
  if (Object.hasOwn(FIXED, fixed)) return make(FIXED[fixed]!);
  switch (names[0]) {
    case "models": return modelRoute(names.slice(1));
    case "repository": return repositoryRoute(names.slice(1));
    case "systemsharedmemory":
    case "cudasharedmemory": return regionRoute(names[0] === "systemsharedmemory" ? "system" : "cuda", names.slice(1));
    default: return undefined;
  }
}

/** A name as it was meant; undefined when it could be taken for more than one name, as an encoded "/" or "..". */
function decode(part: string): string | undefined {
  let name = part;
  if (part.includes("%")) {
    try {
      name = decodeURIComponent(part);
    } catch {
      return undefined;
    }
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  return /[/\\\u0000-\u001f]/.test(name) || name === "." || name === ".." ? undefined : name;
}

function make(kind: RouteKind, model = "", version = "", name = ""): Route {
  return { kind, model, version, name };
}

function modelRoute(names: readonly string[]): Route | undefined {
  const [model, ...rest] = names;
  if (!model) return undefined;
  let version = "";
  if (rest[0] === "versions") {
    if (!/^\d+$/.test(rest[1] ?? "")) return undefined;
    version = rest[1]!;
    rest.splice(0, 2);
  }
  const action = rest.join("/");
  return Object.hasOwn(MODEL_ACTIONS, action) ? make(MODEL_ACTIONS[action]!, model, version) : undefined;
}

/** `[{repository}/]index`, `[{repository}/]models/{model}/load`. */
function repositoryRoute(names: readonly string[]): Route | undefined {
  const length = names.length;
  if (length === 2 && names[1] === "index") return make("index", "", "", names[0]);
  const action = names[length - 1];
  if ((length !== 3 && length !== 4) || names[length - 3] !== "models" || !names[length - 2]) return undefined;
  if (action !== "load" && action !== "unload") return undefined;
  return make(action, names[length - 2], "", length === 4 ? names[0] : "");
}

/** `status`, `unregister`, `region/{name}/status`, … */
function regionRoute(memory: "system" | "cuda", names: readonly string[]): Route | undefined {
  const action = REGION_ACTIONS.find((one) => one === names.at(-1));
  if (action === undefined) return undefined;
  const named = names.length === 3 && names[0] === "region" && names[1];
  if (!named && names.length !== 1) return undefined;
  const kind = `${memory}${action === "status" ? "Status" : action === "register" ? "Register" : "Unregister"}` as const;
  return make(kind, "", "", named ? names[1] : "");
}
