/** Replies in the order of requests, for models that ask for it: an outcome waits for those before it. */
import type { InferenceResponse } from "../contract.ts";
import { Pending } from "./pending.ts";

interface Place {
  deliver: (() => void) | undefined;
}

export class OrderedReplies {
  readonly #places: Place[] = [];

  /** The same request, whose outcome is handed over in its turn. */
  wrap(pending: Pending): Pending {
    const place: Place = { deliver: undefined };
    this.#places.push(place);
    const settle = (deliver: () => void): void => {
      place.deliver = deliver;
      while (this.#places[0]?.deliver) this.#places.shift()!.deliver!();
    };
    return new Pending(
      pending.request, pending, pending.arrivedNs,
      (response: InferenceResponse) => settle(() => pending.resolve(response)),
      (error) => settle(() => pending.reject(error)),
    );
  }
}
