/** What every call shares. */
import type { InferenceServer } from "../contract.ts";
import type { Restrictions } from "../extensions/restrictions.ts";
import type { Extensions } from "../extensions/extensions.ts";
import type { ForwardedHeaders } from "../wire/forwarded.ts";
import type { BodyPool } from "../wire/body-pool.ts";
import type { Inflater } from "./framing.ts";
import type { ServerIdentity } from "../wire/documents.ts";

export interface GrpcContext {
  readonly server: InferenceServer;
  readonly identity: ServerIdentity;
  readonly pool: BodyPool;
  readonly inflater: Inflater;
  readonly extensions: Extensions;
  readonly restrictions: Restrictions;
  readonly forwarded: ForwardedHeaders;
  readonly maxMessageBytes: number;
  /** Requests of one stream that are worked on at a time; more wait in the client. */
  readonly maxStreamRequests: number;
  /** Called when the server drains, by calls that would not end by themselves. */
  readonly onDrain: Set<() => void>;
}
