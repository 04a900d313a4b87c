/** A request's body, copied once from the socket's chunks to native memory. */
import type { IncomingMessage } from "node:http";
import { ServingError } from "../contract.ts";
import type { Body, BodyPool } from "../wire/body-pool.ts";
import type { Reservation } from "../wire/reservation.ts";

/** First memory for a body whose length is not known. */
export const UNKNOWN_LENGTH_BYTES = 64 * 1024;

/** How much may come, and what is said of more. */
export interface BodyLimit {
  readonly mostBytes: number;
  readonly what: "JSON" | "raw" | "body";
}

/** The length that the client states; undefined for a body in chunks. Node has checked that it is a count. */
export function contentLength(request: IncomingMessage): number | undefined {
  const { headers } = request;
  if (headers["transfer-encoding"] !== undefined) return undefined;
  const stated = headers["content-length"];
  return stated === undefined ? 0 : Number(stated);
}

/**
 * @param start where in the memory the body begins
 * @param reservation grows with a body of unknown length
 * @throws INVALID_ARG above the limit; CANCELLED when the client went
 */
export function readBody(request: IncomingMessage, pool: BodyPool, reservation: Reservation | undefined, start: number, limit: BodyLimit): Promise<Body> {
  const stated = contentLength(request);
  if (stated !== undefined && stated > limit.mostBytes) return Promise.reject(tooLarge(stated, limit));
  return new Promise((resolve, reject) => {
    let body = pool.take(start + (stated ?? UNKNOWN_LENGTH_BYTES));
    body.length = start;
    let settled = false;
    const fail = (error: Error): void => {
      if (settled) return;
      settled = true;
      pool.give(body);
      reject(error);
    };
    request.on("data", (chunk: Buffer) => {
      if (settled) return;
      const size = body.length - start + chunk.length;
      if (size > limit.mostBytes) {
        fail(tooLarge(size, limit));
        return;
      }
      if (body.length + chunk.length > body.capacity) {
        try {
          reservation?.resize(2 * body.capacity);
          body = pool.grow(body, body.length + chunk.length);
        } catch (error) {
          fail(error as Error);
          return;
        }
      }
      body.append(chunk);
    });
    request.on("end", () => {
      if (settled) return;
      settled = true;
      resolve(body);
    });
    request.on("error", fail);
    request.on("close", () => {
      if (!settled) fail(new ServingError("CANCELLED", "the client went away while sending its request"));
    });
  });
}

export function tooLarge(size: number, { mostBytes, what }: BodyLimit): ServingError {
  const text = what === "raw" ? `Raw input has a byte_size (${size} bytes) that exceeds the maximum allowed value of ${mostBytes} bytes`
    : `request ${what} size of ${size} bytes exceeds the maximum allowed input size of ${mostBytes} bytes`;
  return new ServingError("INVALID_ARG", `${text}. Use --http-max-input-size to increase the limit.`);
}
