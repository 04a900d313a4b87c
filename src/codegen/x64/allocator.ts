/**
 * Physical registers for virtual ones: linear scan over live ranges with holes.
 *
 * Each virtual register gets one physical register for its whole life, or lives in the frame. When none is free, the
 * cheapest conflicting ones (uses, weighted by loop depth, per length of life) go to the frame; `allocator-spill` then
 * rewrites their uses with short-lived registers, and the scan begins again. Without spills there is one round.
 * Source: Poletto and Sarkar, Linear scan register allocation, 1999, with the holes of Wimmer and Mössenböck, 2005.
 */
import { assert } from "../../base/index.ts";
import type { Item } from "./assembler.ts";
import { computeLiveness, type Liveness, physicalKey, type Ranges } from "./allocator-liveness.ts";
import { isPlainMove, SpillRewriter } from "./allocator-spill.ts";
import { isRegister } from "./operands.ts";
import { CALLEE_SAVED, type Isa, type RegClass, type VReg } from "./registers.ts";

export interface Allocation {
  /** With spill code, without moves of a register to itself. */
  readonly items: readonly Item[];
  /** Physical number by virtual id. */
  readonly registers: Int8Array;
  readonly spills: number;
}

/** General registers in order of preference: those that need no saving first. */
const GP_ORDER: readonly number[] = [0, 1, 2, 6, 7, 8, 9, 10, 11, ...CALLEE_SAVED];
const MASK_ORDER: readonly number[] = [1, 2, 3, 4, 5, 6, 7];
const MOST_ROUNDS = 60;

export function allocate(items: readonly Item[], registers: readonly VReg[], isa: Isa): Allocation {
  const spiller = new SpillRewriter(registers, isa);
  let current = items;
  for (let round = 0; ; round++) {
    assert(round < MOST_ROUNDS, "register allocation does not end: too many operands must be in registers at once");
    const scan = new LinearScan(current, spiller.registers, isa, spiller);
    const spilled = scan.run();
    if (spilled.length === 0) {
      return { items: withoutSelfMoves(current, scan.assignment, isa), registers: scan.assignment, spills: spiller.count };
    }
    current = spiller.rewrite(current, spilled);
  }
}

function withoutSelfMoves(items: readonly Item[], assignment: Int8Array, isa: Isa): readonly Item[] {
  const number = (register: VReg): number => (register.id < 0 ? ~register.id : assignment[register.id]!);
  return items.filter((item) => !(item.kind === "instruction" && isPlainMove(item, isa.vectorBytes) && number(item.operands[0] as VReg) === number(item.operands[1] as VReg)));
}

/** Registers with names below 16 only: VEX cannot name the others. */
function needsLowRegister(items: readonly Item[], count: number): Uint8Array {
  const low = new Uint8Array(count);
  for (const item of items) {
    if (item.kind !== "instruction" || item.form.evex || item.form.legacy) continue;
    for (const operand of item.operands) {
      if (typeof operand !== "object") continue;
      const register = isRegister(operand) ? operand : operand.index;
      if (register?.class === "vec" && register.id >= 0) low[register.id] = 1;
    }
  }
  return low;
}

class LinearScan {
  readonly assignment: Int8Array;
  readonly #registers: readonly VReg[];
  readonly #isa: Isa;
  readonly #spiller: SpillRewriter;
  readonly #liveness: Liveness;
  readonly #low: Uint8Array;
  readonly #partners: Map<number, VReg[]>;
  readonly #spilled: number[] = [];

  constructor(items: readonly Item[], registers: readonly VReg[], isa: Isa, spiller: SpillRewriter) {
    this.#registers = registers;
    this.#isa = isa;
    this.#spiller = spiller;
    this.#liveness = computeLiveness(items, registers.length);
    this.assignment = new Int8Array(registers.length).fill(-1);
    this.#low = isa.name === "avx512" ? needsLowRegister(items, registers.length) : new Uint8Array(registers.length);
    this.#partners = findPartners(items);
  }

  /** @returns ids of registers that must go to the frame */
  run(): readonly number[] {
    const { ranges } = this.#liveness;
    const byClass: Record<RegClass, number[]> = { gp: [], vec: [], mask: [], tile: [] };
    for (const { id, class: regClass } of this.#registers) if (ranges[id]!.length > 0) byClass[regClass].push(id);
    const vectors = Array.from({ length: this.#isa.name === "avx512" ? 32 : 16 }, (_, i) => i);
    this.#scan("gp", byClass.gp, GP_ORDER);
    this.#scan("vec", byClass.vec, vectors);
    this.#scan("mask", byClass.mask, MASK_ORDER);
    return this.#spilled;
  }

  #scan(regClass: RegClass, ids: number[], order: readonly number[]): void {
    const { ranges } = this.#liveness;
    ids.sort((a, b) => ranges[a]![0]! - ranges[b]![0]!);
    const occupants: number[][] = Array.from({ length: 32 }, () => []);
    const fixed = order.map((number) => this.#liveness.fixed.get(physicalKey(regClass, number)) ?? []);
    const lowOrder = order.filter((number) => number < 16);
    for (const id of ids) {
      const allowed = this.#low[id] ? lowOrder : order;
      const start = ranges[id]![0]!;
      const isFree = (number: number): boolean => {
        const position = order.indexOf(number);
        if (position < 0 || intersects(ranges[id]!, fixed[position]!)) return false;
        const list = occupants[number]!;
        for (let k = list.length - 1; k >= 0; k--) {
          const other = ranges[list[k]!]!;
          if (other[other.length - 1]! <= start) { list[k] = list[list.length - 1]!; list.pop(); }
          else if (intersects(ranges[id]!, other)) return false;
        }
        return true;
      };
      const chosen = this.#hint(id, allowed, isFree) ?? allowed.find(isFree) ?? this.#makeRoom(id, allowed, order, occupants, fixed);
      if (chosen === undefined) continue;
      this.assignment[id] = chosen;
      occupants[chosen]!.push(id);
    }
  }

  /** The register of a move's other side, when it is free: the move then disappears. */
  #hint(id: number, allowed: readonly number[], isFree: (number: number) => boolean): number | undefined {
    for (const partner of this.#partners.get(id) ?? []) {
      const number = partner.id < 0 ? ~partner.id : this.assignment[partner.id]!;
      if (number >= 0 && allowed.includes(number) && isFree(number)) return number;
    }
    return undefined;
  }

  /** Sends the cheapest conflicting registers, or this one, to the frame. @returns the register made free */
  #makeRoom(id: number, allowed: readonly number[], order: readonly number[], occupants: number[][], fixed: readonly Ranges[]): number | undefined {
    const { ranges } = this.#liveness;
    let best: number | undefined;
    let bestCost = this.#cost(id);
    for (const number of allowed) {
      if (intersects(ranges[id]!, fixed[order.indexOf(number)]!)) continue;
      let cost = 0;
      for (const other of occupants[number]!) if (intersects(ranges[id]!, ranges[other]!)) cost += this.#cost(other);
      if (cost < bestCost) { best = number; bestCost = cost; }
    }
    if (best === undefined) {
      assert(bestCost < Infinity, "an instruction needs more registers than there are");
      this.#spilled.push(id);
      return undefined;
    }
    occupants[best] = occupants[best]!.filter((other) => {
      if (!intersects(ranges[id]!, ranges[other]!)) return true;
      this.#spilled.push(other);
      this.assignment[other] = -1;
      return false;
    });
    return best;
  }

  #cost(id: number): number {
    if (this.#spiller.isTemporary(id)) return Infinity;
    const range = this.#liveness.ranges[id]!;
    return this.#liveness.weights[id]! / (range[range.length - 1]! - range[0]!);
  }
}

/** Registers on the other side of moves, by virtual id. */
function findPartners(items: readonly Item[]): Map<number, VReg[]> {
  const partners = new Map<number, VReg[]>();
  const note = (register: VReg, partner: VReg): void => {
    if (register.id < 0) return;
    const list = partners.get(register.id);
    if (list) list.push(partner);
    else partners.set(register.id, [partner]);
  };
  for (const item of items) {
    if (item.kind !== "instruction" || !isPlainMove(item)) continue;
    const [to, from] = item.operands as [VReg, VReg];
    note(to, from);
    note(from, to);
  }
  return partners;
}

/** Whether two ascending lists of ranges share a position. */
function intersects(a: Ranges, b: Ranges): boolean {
  if (b.length === 0) return false;
  let j = firstEndingAfter(b, a[0]!);
  for (let i = 0; i < a.length && j < b.length; ) {
    if (a[i + 1]! <= b[j]!) i += 2;
    else if (b[j + 1]! <= a[i]!) j += 2;
    else return true;
  }
  return false;
}

/** Index of the first range that ends after `position`; the list's length when none does. */
function firstEndingAfter(list: Ranges, position: number): number {
  let [low, high] = [0, list.length >> 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[2 * middle + 1]! > position) high = middle;
    else low = middle + 1;
  }
  return 2 * low;
}
