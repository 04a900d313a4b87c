/** Content codings: gzip and deflate (zlib's format), with a bound on what a body may inflate to. Source: RFC 9110, 8.4 and 12.5.3. */
import { gunzip, inflate } from "node:zlib";
import { ServingError } from "../contract.ts";
import type { Body } from "../wire/body-pool.ts";
import type { Reservation } from "../wire/reservation.ts";
import type { HttpContext } from "./context.ts";

export type Encoding = "identity" | "gzip" | "deflate";

/** No deflated byte stands for more than this many. Source: zlib, "Maximum compression factor". */
const MOST_INFLATION = 1032;

/** @returns undefined for codings that are not supported */
export function requestEncoding(header: string | undefined): Encoding | undefined {
  if (header === undefined || header === "") return "identity";
  const coding = header.trim().toLowerCase();
  return coding === "identity" || coding === "gzip" || coding === "deflate" ? coding : undefined;
}

/** The coding that the client likes best, of those supported. */
export function acceptedEncoding(header: string | undefined): Encoding {
  if (header === undefined) return "identity";
  let best: Encoding = "identity";
  let bestQuality = 0;
  for (const item of header.split(",")) {
    const [name, ...parameters] = item.split(";");
    const coding = name!.trim().toLowerCase();
    if (coding !== "gzip" && coding !== "deflate" && coding !== "identity") continue;
    const quality = qualityOf(parameters);
    if (quality > bestQuality) {
      best = coding;
      bestQuality = quality;
    }
  }
  return best;
}

function qualityOf(parameters: readonly string[]): number {
  const given = parameters.find((parameter) => parameter.trim().startsWith("q="));
  if (given === undefined) return 1;
  const quality = Number(given.trim().slice(2));
  return quality >= 0 && quality <= 1 ? quality : 0;
}

/**
 * Inflates a body on another thread, into memory whose first `start` bytes stay free. Gives the compressed body back.
 * Room for all that it may inflate to is claimed first, so that bombs are bounded together and not only each.
 * @throws INVALID_ARG when it is damaged or inflates to more than may be
 */
export async function inflateBody(body: Body, encoding: Exclude<Encoding, "identity">, context: HttpContext, reservation: Reservation | undefined, start: number): Promise<{ body: Body; start: number }> {
  const { pool, maxInputBytes } = context;
  try {
    reservation?.resize(Math.min(body.length * MOST_INFLATION, 2 * maxInputBytes));
    const inflated = await inflateBytes(body.filled(), encoding, maxInputBytes);
    reservation?.resize(inflated.byteLength);
    const result = pool.take(start + inflated.byteLength);
    result.length = start;
    result.append(inflated);
    return { body: result, start };
  } finally {
    pool.give(body);
  }
}

function inflateBytes(bytes: Uint8Array, encoding: Exclude<Encoding, "identity">, mostBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    (encoding === "gzip" ? gunzip : inflate)(bytes, { maxOutputLength: mostBytes }, (error, inflated) => {
      if (error === null) resolve(inflated);
      else if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
        reject(new ServingError("INVALID_ARG", `decompressed request size exceeds the maximum allowed value of ${mostBytes} bytes. Use --http-max-input-size to increase the limit.`));
      } else reject(new ServingError("INVALID_ARG", `failed to decompress the request body: ${error.message}`));
    });
  });
}
