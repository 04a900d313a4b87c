/**
 * The parameter block of a kernel: one slot per distinct buffer address, packed constant or size expression.
 * Equal sizes share a slot; a size that is a plain number needs none.
 */
import { type Buffer, type Dim, dimKey, type Param } from "../../../ir/index.ts";

export class ParamTable {
  readonly list: Param[] = [];
  private readonly slots = new Map<string | Buffer, number>();

  /** Byte displacement of the slot that holds the buffer's address. */
  pointer(buffer: Buffer): number {
    return this.slot(buffer, { kind: "pointer", buffer });
  }

  /** Byte displacement of the slot that holds the size. */
  dim(value: Dim): number {
    return this.slot(`dim ${dimKey(value)}`, { kind: "dim", value });
  }

  /** Byte displacement of the slot that holds the address of `packed[index]`. */
  packed(index: number): number {
    return this.slot(`packed ${index}`, { kind: "packed", index });
  }

  private slot(key: string | Buffer, param: Param): number {
    const known = this.slots.get(key);
    if (known !== undefined) return known * 8;
    this.list.push(param);
    this.slots.set(key, this.list.length - 1);
    return (this.list.length - 1) * 8;
  }
}
