/** A request's claim on the server's queues: made before its body is read, kept until its memory is given back. */
import type { InferenceServer } from "../contract.ts";

export class Reservation {
  readonly #server: InferenceServer;
  readonly #model: string;
  readonly #version: string;
  #bytes: number;
  #held = true;

  /** @throws UNAVAILABLE when there is no room */
  constructor(server: InferenceServer, model: string, version: string, bytes: number) {
    server.enter(model, version, bytes);
    this.#server = server;
    this.#model = model;
    this.#version = version;
    this.#bytes = bytes;
  }

  /** @throws UNAVAILABLE when there is no room for more; the claim is gone then */
  resize(bytes: number): void {
    if (bytes === this.#bytes) return;
    this.release();
    this.#server.enter(this.#model, this.#version, bytes);
    this.#bytes = bytes;
    this.#held = true;
  }

  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#server.leave(this.#model, this.#version, this.#bytes);
  }
}
