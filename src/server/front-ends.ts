/** The server's ways in: HTTP, gRPC and metrics, over one set of extensions. */
import type { Logger } from "pino";
import { UserError } from "../base/index.ts";
import type { InferenceServer } from "./contract.ts";
import { Extensions } from "./extensions/extensions.ts";
import type { LogSettingsOptions } from "./extensions/log-settings.ts";
import { Restrictions } from "./extensions/restrictions.ts";
import type { TraceSetting } from "./extensions/trace-settings.ts";
import { GrpcFrontEnd } from "./grpc/index.ts";
import { HttpFrontEnd } from "./http/index.ts";
import { MetricsFrontEnd, type MetricsRegistry } from "./metrics/index.ts";
import { ForwardedHeaders } from "./wire/forwarded.ts";

export interface FrontEndOptions {
  readonly log: Logger;
  readonly host?: string;
  /** Where a front end listens, if not there. */
  readonly httpHost?: string | undefined;
  readonly grpcHost?: string | undefined;
  readonly metricsHost?: string | undefined;
  /** 0: any free one; undefined: that front end is not opened. */
  readonly httpPort?: number | undefined;
  readonly grpcPort?: number | undefined;
  readonly metricsPort?: number | undefined;
  readonly maxInputBytes?: number;
  readonly allowClientSharedMemory?: boolean;
  /** How the logger is told of its settings, and what they are at start. */
  readonly logSettings?: LogSettingsOptions;
  /** What the trace settings are at start. */
  readonly trace?: Partial<TraceSetting>;
  /** Each "category,category:key=value": what only callers with that header may use. */
  readonly httpRestricted?: readonly string[];
  readonly grpcRestricted?: readonly string[];
  /** Names of headers that go with requests as parameters. */
  readonly httpForwardPattern?: string | undefined;
  readonly grpcForwardPattern?: string | undefined;
  readonly grpcMaxConnectionAgeSeconds?: number | undefined;
  readonly grpcMaxConnectionAgeGraceSeconds?: number | undefined;
  /** What the server calls itself. */
  readonly id?: string;
  readonly version: string;
}

export interface FrontEnds {
  readonly ports: { readonly httpPort: number | undefined; readonly grpcPort: number | undefined; readonly metricsPort: number | undefined };
  /** Finishes what was accepted. @returns requests cut off */
  drain(mostMs: number): Promise<number>;
  close(): Promise<void>;
}

/** @throws UserError "option-invalid" before any port is open; "address-unusable", with none open */
export async function openFrontEnds(server: InferenceServer, registry: MetricsRegistry, options: FrontEndOptions): Promise<FrontEnds> {
  const { host = "127.0.0.1", trace, logSettings, maxInputBytes } = options;
  const identity = { name: options.id ?? "triton", version: options.version };
  // What is wrong with the options is told before any port is open.
  const restrictions = [new Restrictions(options.httpRestricted), new Restrictions(options.grpcRestricted, "protocol", "triton-grpc-protocol-")] as const;
  const forwarded = [new ForwardedHeaders(options.httpForwardPattern), new ForwardedHeaders(options.grpcForwardPattern)] as const;
  const extensions = new Extensions({ logger: options.log, allowClientSharedMemory: options.allowClientSharedMemory ?? false, ...(trace ? { trace } : {}), ...(logSettings ? { log: logSettings } : {}) });
  const age = { ...milliseconds("maxConnectionAgeMs", options.grpcMaxConnectionAgeSeconds), ...milliseconds("maxConnectionAgeGraceMs", options.grpcMaxConnectionAgeGraceSeconds) };
  const opened: (() => Promise<unknown>)[] = [];
  const open = async <T>(name: string, port: number | undefined, at: string, listen: (place: { host: string; port: number }) => Promise<T>, close: (front: T) => Promise<unknown>): Promise<T | undefined> => {
    if (port === undefined) return undefined;
    try {
      const front = await listen({ host: at, port });
      opened.push(() => close(front));
      return front;
    } catch (cause) {
      await Promise.all(opened.map((undo) => undo()));
      const reason = (cause as NodeJS.ErrnoException).code === "EADDRINUSE" ? `Unavailable - Socket '${at}:${port}' already in use` : (cause as Error).message;
      throw new UserError("address-unusable", `failed to start ${name} service: ${reason}`, { cause });
    }
  };
  const http = await open("HTTP", options.httpPort, options.httpHost ?? host, (place) => HttpFrontEnd.listen(server, { ...place, identity, extensions, restrictions: restrictions[0], forwarded: forwarded[0], ...(maxInputBytes === undefined ? {} : { maxInputBytes }) }), (front) => front.drain(0));
  const grpc = await open("GRPC", options.grpcPort, options.grpcHost ?? host, (place) => GrpcFrontEnd.listen(server, { ...place, identity, extensions, restrictions: restrictions[1], forwarded: forwarded[1], ...age }), (front) => front.drain(0));
  const metrics = await open("Metrics", options.metricsPort, options.metricsHost ?? host, (place) => MetricsFrontEnd.listen(registry, place), (front) => front.close());
  return {
    ports: { httpPort: http?.port, grpcPort: grpc?.port, metricsPort: metrics?.port },
    drain: async (mostMs) => (await Promise.all([http?.drain(mostMs), grpc?.drain(mostMs)])).reduce<number>((sum, cutOff) => sum + (cutOff ?? 0), 0),
    close: async () => {
      await metrics?.close();
      extensions.close();
    },
  };
}

function milliseconds<Name extends string>(name: Name, seconds: number | undefined): { readonly [K in Name]?: number } {
  return (seconds === undefined ? {} : { [name]: seconds * 1000 }) as { readonly [K in Name]?: number };
}
