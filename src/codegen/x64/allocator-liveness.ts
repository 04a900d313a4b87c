/**
 * When each register holds a value that is still needed: liveness over the control-flow graph, as ranges of positions.
 *
 * Item i reads at position 2i and writes at 2i + 1; ranges are half-open, so a result may take the register of an operand
 * that ends there. Only registers read before they are written in some block can be live across blocks: the sets of the
 * fixpoint hold no others. Physical registers live inside one block, or from the entry (parameters).
 */
import { assert } from "../../base/index.ts";
import type { Item } from "./assembler.ts";
import { type Label, visitRegisters } from "./operands.ts";
import { CALLEE_SAVED, type RegClass } from "./registers.ts";

/** Flat ascending pairs: start, end, start, end… */
export type Ranges = number[];

export interface Liveness {
  /** By virtual id; empty for registers that do not occur. */
  readonly ranges: readonly Ranges[];
  /** Uses, each worth more inside loops. */
  readonly weights: Float64Array;
  /** By `physicalKey`: when a physical register is taken by code that names it. */
  readonly fixed: ReadonlyMap<number, Ranges>;
}

interface Block {
  readonly begin: number;
  readonly end: number;
  successors: number[];
  uses: Uint32Array;
  defs: Uint32Array;
  liveIn: Uint32Array;
}

const CLASS_BASE: Readonly<Record<RegClass, number>> = { gp: 0, vec: 32, mask: 64, tile: 96 };
export function physicalKey(regClass: RegClass, index: number): number {
  return CLASS_BASE[regClass] + index;
}

/** What a call may change: all vector and mask registers, and the general ones the callee need not save. */
const CLOBBERED: readonly number[] = [
  ...Array.from({ length: 16 }, (_, i) => i).filter((i) => i !== 4 && !CALLEE_SAVED.includes(i)),
  ...Array.from({ length: 32 }, (_, i) => physicalKey("vec", i)),
  ...Array.from({ length: 8 }, (_, i) => physicalKey("mask", i)),
];

/** Each factor of loop depth makes a use this much dearer. */
const LOOP_WEIGHT = 8;

/** Touches of registers by all items: `registers[k]` (negative: -1 - physicalKey) with access 1 read, 2 written, 3 both. */
class Touches {
  readonly first: Int32Array;
  readonly registers: number[] = [];
  readonly access: number[] = [];

  constructor(items: readonly Item[]) {
    this.first = new Int32Array(items.length + 1);
    items.forEach((item, i) => {
      this.first[i] = this.registers.length;
      if (item.kind !== "instruction") return;
      visitRegisters(item, (register, reads, writes) => {
        if (register.class === "tile") return;
        this.registers.push(register.id >= 0 ? register.id : -1 - physicalKey(register.class, ~register.id));
        this.access.push((reads ? 1 : 0) | (writes ? 2 : 0));
      });
      if (isCall(item)) for (const key of CLOBBERED) { this.registers.push(-1 - key); this.access.push(2); }
    });
    this.first[items.length] = this.registers.length;
  }
}

export function isCall(item: Item): boolean {
  return item.kind === "instruction" && item.form.name === "call";
}

export function computeLiveness(items: readonly Item[], registerCount: number): Liveness {
  const touches = new Touches(items);
  const blocks = findBlocks(items);
  const { bitOf, globals } = findGlobals(touches, blocks, registerCount);
  solve(touches, blocks, bitOf, globals.length);
  return new RangeBuilder(items, touches, blocks, globals, registerCount).build();
}

function findBlocks(items: readonly Item[]): Block[] {
  const starts: number[] = [];
  items.forEach((item, i) => {
    const previous = items[i - 1];
    if (i === 0 || item.kind === "label" && previous?.kind !== "label" || previous?.kind === "jump") starts.push(i);
  });
  const none = new Uint32Array(0);
  const blocks = starts.map((begin, b): Block => ({ begin, end: starts[b + 1] ?? items.length, successors: [], uses: none, defs: none, liveIn: none }));
  const blockOf = new Map<Label, number>();
  blocks.forEach((block, b) => {
    for (let i = block.begin; i < block.end; i++) {
      const item = items[i]!;
      if (item.kind === "label") blockOf.set(item, b);
    }
  });
  blocks.forEach((block, b) => {
    const last = items[block.end - 1]!;
    if (last.kind === "jump") {
      const target = blockOf.get(last.target);
      assert(target !== undefined, `label ${last.target.name} is never bound`);
      block.successors.push(target);
    }
    if ((last.kind !== "jump" || last.condition !== "always") && b + 1 < blocks.length) block.successors.push(b + 1);
  });
  return blocks;
}

/** Registers read in some block before that block writes them. */
function findGlobals(touches: Touches, blocks: readonly Block[], registerCount: number): { bitOf: Int32Array; globals: number[] } {
  const bitOf = new Int32Array(registerCount).fill(-1);
  const globals: number[] = [];
  const writtenIn = new Int32Array(registerCount).fill(-1);
  blocks.forEach(({ begin, end }, b) => {
    for (let i = begin; i < end; i++) {
      const [from, to] = [touches.first[i]!, touches.first[i + 1]!];
      for (let k = from; k < to; k++) {
        const register = touches.registers[k]!;
        if (register < 0 || (touches.access[k]! & 1) === 0 || writtenIn[register] === b || bitOf[register] !== -1) continue;
        bitOf[register] = globals.push(register) - 1;
      }
      for (let k = from; k < to; k++) {
        if (touches.registers[k]! >= 0 && (touches.access[k]! & 2) !== 0) writtenIn[touches.registers[k]!] = b;
      }
    }
  });
  return { bitOf, globals };
}

function solve(touches: Touches, blocks: readonly Block[], bitOf: Int32Array, count: number): void {
  const words = (count + 31) >>> 5;
  for (const block of blocks) {
    block.uses = new Uint32Array(words);
    block.defs = new Uint32Array(words);
    for (let i = block.end - 1; i >= block.begin; i--) {
      for (const read of [false, true]) {
        for (let k = touches.first[i]!; k < touches.first[i + 1]!; k++) {
          const register = touches.registers[k]!;
          const bit = register < 0 ? -1 : bitOf[register]!;
          if (bit < 0) continue;
          const [word, flag] = [bit >>> 5, 1 << (bit & 31)];
          if (read && (touches.access[k]! & 1) !== 0) block.uses[word]! |= flag;
          else if (!read && (touches.access[k]! & 2) !== 0) { block.defs[word]! |= flag; block.uses[word]! &= ~flag; }
        }
      }
    }
    block.liveIn = block.uses.slice();
  }
  for (let changed = true; changed; ) {
    changed = false;
    for (let b = blocks.length - 1; b >= 0; b--) {
      const { successors, uses, defs, liveIn } = blocks[b]!;
      for (let word = 0; word < words; word++) {
        let out = 0;
        for (const successor of successors) out |= blocks[successor]!.liveIn[word]!;
        const live = (uses[word]! | (out & ~defs[word]!)) >>> 0;
        if (live !== liveIn[word]) { liveIn[word] = live; changed = true; }
      }
    }
  }
}

/** Walks the code backwards and notes ranges; they are built in descending order and turned round at the end. */
class RangeBuilder {
  readonly #items: readonly Item[];
  readonly #touches: Touches;
  readonly #blocks: readonly Block[];
  readonly #globals: readonly number[];
  readonly #ranges: Ranges[];
  readonly #weights: Float64Array;
  /** Where the live value's range ends; -1 while the register holds none. */
  readonly #liveEnd: Float64Array;
  readonly #fixed = new Map<number, Ranges>();
  readonly #fixedEnd = new Map<number, number>();

  constructor(items: readonly Item[], touches: Touches, blocks: readonly Block[], globals: readonly number[], registerCount: number) {
    this.#items = items;
    this.#touches = touches;
    this.#blocks = blocks;
    this.#globals = globals;
    this.#ranges = Array.from({ length: registerCount }, () => []);
    this.#weights = new Float64Array(registerCount);
    this.#liveEnd = new Float64Array(registerCount).fill(-1);
  }

  build(): Liveness {
    const depths = loopDepths(this.#items);
    for (let b = this.#blocks.length - 1; b >= 0; b--) this.#block(this.#blocks[b]!, b, depths);
    for (const list of this.#ranges) turn(list);
    for (const list of this.#fixed.values()) turn(list);
    return { ranges: this.#ranges, weights: this.#weights, fixed: this.#fixed };
  }

  #block(block: Block, b: number, depths: Int32Array): void {
    for (const successor of block.successors) this.#eachLive(this.#blocks[successor]!.liveIn, (register) => { this.#liveEnd[register] = 2 * block.end; });
    for (let i = block.end - 1; i >= block.begin; i--) this.#item(i, LOOP_WEIGHT ** Math.min(depths[i]!, 8));
    this.#eachLive(block.liveIn, (register) => {
      this.#add(this.#ranges[register]!, 2 * block.begin, this.#liveEnd[register]!);
      this.#liveEnd[register] = -1;
    });
    for (const [key, end] of this.#fixedEnd) {
      assert(b === 0, "a physical register is read in a block that does not set it");
      this.#add(this.#fixedRanges(key), 0, end);
    }
    this.#fixedEnd.clear();
  }

  #eachLive(set: Uint32Array, action: (register: number) => void): void {
    set.forEach((word, w) => {
      for (let rest = word; rest !== 0; rest &= rest - 1) action(this.#globals[w * 32 + (31 - Math.clz32(rest & -rest))]!);
    });
  }

  #item(i: number, weight: number): void {
    const { first, registers, access } = this.#touches;
    const [from, to] = [first[i]!, first[i + 1]!];
    for (let k = from; k < to; k++) if ((access[k]! & 2) !== 0) this.#write(registers[k]!, i, (access[k]! & 1) !== 0);
    for (let k = from; k < to; k++) if ((access[k]! & 1) !== 0) this.#read(registers[k]!, i);
    for (let k = from; k < to; k++) if (registers[k]! >= 0) this.#weights[registers[k]!]! += weight;
  }

  #write(register: number, i: number, alsoRead: boolean): void {
    if (register < 0) {
      const key = -1 - register;
      const end = this.#fixedEnd.get(key) ?? 2 * i + 2;
      if (alsoRead) this.#fixedEnd.set(key, end);
      else { this.#add(this.#fixedRanges(key), 2 * i + 1, end); this.#fixedEnd.delete(key); }
      return;
    }
    const end = this.#liveEnd[register]! < 0 ? 2 * i + 2 : this.#liveEnd[register]!;
    if (alsoRead) this.#liveEnd[register] = end;
    else { this.#add(this.#ranges[register]!, 2 * i + 1, end); this.#liveEnd[register] = -1; }
  }

  #read(register: number, i: number): void {
    if (register < 0) {
      if (!this.#fixedEnd.has(-1 - register)) this.#fixedEnd.set(-1 - register, 2 * i + 1);
    } else if (this.#liveEnd[register]! < 0) this.#liveEnd[register] = 2 * i + 1;
  }

  #fixedRanges(key: number): Ranges {
    let list = this.#fixed.get(key);
    if (list === undefined) this.#fixed.set(key, (list = []));
    return list;
  }

  /** Adds a range in front of the later ones, which the list holds as end, start, end, start… */
  #add(list: Ranges, start: number, end: number): void {
    const last = list.length - 1;
    if (last > 0 && list[last]! <= end) list[last] = Math.min(start, list[last]!);
    else list.push(end, start);
  }
}

function turn(list: Ranges): void {
  list.reverse();
}

/** How many loops each item is in: a jump backwards closes one. */
function loopDepths(items: readonly Item[]): Int32Array {
  const bound = new Map<Label, number>();
  const changes = new Int32Array(items.length + 1);
  items.forEach((item, i) => {
    if (item.kind === "label") bound.set(item, i);
    if (item.kind !== "jump") return;
    const begin = bound.get(item.target);
    if (begin === undefined) return;
    changes[begin]!++;
    changes[i + 1]!--;
  });
  for (let i = 1; i < changes.length; i++) changes[i]! += changes[i - 1]!;
  return changes;
}
