/** What every exchange over HTTP shares. */
import type { InferenceServer } from "../contract.ts";
import type { LogSettings } from "../extensions/log-settings.ts";
import type { SharedMemoryRegions } from "../extensions/shared-memory.ts";
import type { Restrictions } from "../extensions/restrictions.ts";
import type { Tracer } from "../extensions/tracer.ts";
import type { TraceSettings } from "../extensions/trace-settings.ts";
import type { ForwardedHeaders } from "../wire/forwarded.ts";
import type { BodyPool } from "../wire/body-pool.ts";
import type { ServerIdentity } from "../wire/documents.ts";
import type { JsonWorker } from "./json-worker.ts";

export interface HttpContext {
  readonly server: InferenceServer;
  readonly identity: ServerIdentity;
  readonly pool: BodyPool;
  readonly json: JsonWorker;
  readonly regions: SharedMemoryRegions;
  readonly log: LogSettings;
  readonly trace: TraceSettings;
  readonly tracer: Tracer;
  readonly restrictions: Restrictions;
  readonly forwarded: ForwardedHeaders;
  /** Of a request's JSON, of one tensor, and of what a compressed body inflates to. */
  readonly maxInputBytes: number;
  /** How long a client may take no byte of its reply. */
  readonly replyTimeoutMs: number;
  /** While the server drains, every reply asks its client to go. */
  readonly life: { draining: boolean };
}
