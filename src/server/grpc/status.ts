/** gRPC's statuses and how they travel. Source: gRPC over HTTP/2, "Responses"; "Status codes and their use in gRPC". */
import { asServingError, GRPC_STATUS } from "../wire/status.ts";

export const CODE = { ok: 0, cancelled: 1, deadlineExceeded: 4, resourceExhausted: 8, unimplemented: 12, internal: 13, unavailable: 14 } as const;

/** A failure with a status of gRPC's own. */
export class GrpcFailure extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export function statusOf(error: unknown): { readonly code: number; readonly message: string } {
  if (error instanceof GrpcFailure) return error;
  const { status, message } = asServingError(error);
  return { code: GRPC_STATUS[status], message };
}

/** Bytes outside printable ASCII, and the percent sign, in percent encoding. */
export function encodeMessage(text: string): string {
  if (/^[\x20-\x24\x26-\x7e]*$/.test(text)) return text;
  let encoded = "";
  for (const byte of Buffer.from(text)) encoded += byte >= 0x20 && byte <= 0x7e && byte !== 0x25 ? String.fromCharCode(byte) : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return encoded;
}

const UNITS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/** Milliseconds of a `grpc-timeout` header; undefined when there is none that makes sense. */
export function timeoutMs(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const unit = UNITS[header.at(-1)!];
  const digits = header.slice(0, -1);
  return unit === undefined || !/^\d{1,8}$/.test(digits) ? undefined : Number(digits) * unit;
}
