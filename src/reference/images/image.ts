/** A decoded picture: rows of RGB bytes from the top. */
import { UserError } from "../../base/index.ts";

export interface Picture {
  readonly width: number;
  readonly height: number;
  /** [height, width, 3] */
  readonly rgb: Uint8Array;
}

/** Most pixels that are decoded. */
const MAX_PIXELS = 2 ** 28;

export function newPicture(width: number, height: number, format: string): Picture {
  if (!(width > 0 && height > 0 && width * height <= MAX_PIXELS)) throw damaged(format, `its size is ${width}x${height}; at most ${MAX_PIXELS} pixels are decoded`);
  return { width, height, rgb: new Uint8Array(width * height * 3) };
}

export function damaged(format: string, what: string): UserError {
  return new UserError("input-invalid", `ImageDecoder: the ${format} image cannot be read: ${what}.`);
}
