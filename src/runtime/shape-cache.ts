/**
 * What an executor has made for each shape it met: found by the dims of the inputs, the least recently used given up
 * first. Runs mostly repeat the shape before; that one is found without solving for symbols.
 */
import type { Feeds } from "./execution.ts";
import { checkFeed, sameDims } from "./execution.ts";
import type { LoadedEngine } from "./loaded-engine.ts";
import { chooseProfile } from "./shapes.ts";

export interface ShapeCacheOptions<S> {
  /** Most shapes kept. */
  readonly most: number;
  make(bindings: ReadonlyMap<string, number>, profile: number): S;
  /** Frees what the shape holds. */
  release(shape: S): void;
}

export class ShapeCache<S> {
  readonly #engine: LoadedEngine;
  readonly #options: ShapeCacheOptions<S>;
  readonly #shapes = new Map<string, S>();
  /** What the last run was given, and its shape. */
  #recent: { readonly dims: readonly (readonly number[])[]; readonly shape: S } | undefined;

  constructor(engine: LoadedEngine, options: ShapeCacheOptions<S>) {
    this.#engine = engine;
    this.#options = options;
  }

  /** @throws UserError for inputs that the model does not take, or a shape outside the profiles */
  of(feeds: Feeds): S {
    const { manifest, binder, dims: table } = this.#engine;
    const dims = manifest.inputs.map((input) => checkFeed(input, feeds[input.name], table));
    const recent = this.#recent;
    if (recent && dims.every((own, i) => sameDims(own, recent.dims[i]!))) return recent.shape;
    const bindings = binder.bind(dims);
    const shape = this.at(bindings, chooseProfile(manifest.profiles, bindings));
    this.#recent = { dims: dims.map((own) => [...own]), shape };
    return shape;
  }

  /** The shape of these sizes, which may be more than the inputs decide. */
  at(bindings: ReadonlyMap<string, number>, profile: number): S {
    const key = `${profile}|${[...bindings.values()]}`;
    const shape = this.#shapes.get(key) ?? this.#options.make(bindings, profile);
    this.#shapes.delete(key);
    this.#shapes.set(key, shape);
    if (this.#shapes.size > this.#options.most) this.#forgetOldest();
    return shape;
  }

  all(): Iterable<S> {
    return this.#shapes.values();
  }

  clear(): void {
    for (const shape of this.#shapes.values()) this.#options.release(shape);
    this.#shapes.clear();
    this.#recent = undefined;
  }

  #forgetOldest(): void {
    const [key, shape] = this.#shapes.entries().next().value!;
    this.#shapes.delete(key);
    if (this.#recent?.shape === shape) this.#recent = undefined;
    this.#options.release(shape);
  }
}
