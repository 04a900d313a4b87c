/**
 * Loads and stores of lanes for every storage type, whole or under a mask, contiguous or at offsets.
 * No byte outside active lanes is touched. AVX-512 masks every access in hardware; AVX2 does so for 32- and 64-bit
 * elements, and copies smaller ones one by one through the frame.
 */
import { assert, type DType } from "../../../base/index.ts";
import type { FunctionBuilder, Mem, VReg } from "../function.ts";
import type { Lanes, Vector } from "./lanes.ts";
import { scalarTypeOf } from "../../loop-ir.ts";
import { elementBytes, isWide } from "./storage.ts";

const at = (place: Mem, bytes: number): Mem => ({ ...place, disp: (place.disp ?? 0) + bytes });

/** Widening loads of small types to 32-bit lanes. */
const WIDENING: Readonly<Partial<Record<DType, string>>> = {
  float16: "vcvtph2ps", bfloat16: "vpmovzxwd", int8: "vpmovsxbd", uint8: "vpmovzxbd", bool: "vpmovzxbd", int16: "vpmovsxwd", uint16: "vpmovzxwd",
};

export class LaneMemory {
  private readonly lanes: Lanes;
  private readonly f: FunctionBuilder;

  constructor(lanes: Lanes) {
    this.lanes = lanes;
    this.f = lanes.f;
  }

  // ---- loads

  load(dtype: DType, place: Mem, mask?: VReg): Vector {
    const size = elementBytes(dtype);
    if (size === 8) {
      const masks = mask ? this.lanes.splitMask(mask) : [undefined, undefined];
      return masks.map((part, i) => this.loadRegister("pd", at(place, i * this.f.isa.vectorBytes), part));
    }
    if (size === 4) return [this.loadRegister("ps", place, mask)];
    if (!mask) return this.finishSmall(dtype, this.lanes.emit(WIDENING[dtype]!, place));
    if (this.lanes.isWideIsa) {
      const result = this.f.vec();
      this.f.emitMasked(`${WIDENING[dtype]!}.z`, mask, true, result, place);
      return this.finishSmall(dtype, result);
    }
    const slot = this.slot();
    this.f.emit("vmovups.y", slot, this.lanes.zero());
    this.copyLanes(size, (lane) => at(place, lane * size), (lane) => at(slot, lane * size), mask);
    return this.finishSmall(dtype, this.lanes.emit(WIDENING[dtype]!, slot));
  }

  private loadRegister(kind: "ps" | "pd", place: Mem, mask: VReg | undefined): VReg {
    if (!mask) return this.lanes.emit("vmovups", place);
    const result = this.f.vec();
    if (this.lanes.isWideIsa) this.f.emitMasked(`vmovu${kind}.z`, mask, true, result, place);
    else this.f.emit(`vmaskmov${kind}.y`, result, mask, place);
    return result;
  }

  private finishSmall(dtype: DType, value: VReg): Vector {
    if (dtype === "bfloat16") return [this.lanes.emit("vpslld", value, 16)];
    if (dtype === "bool") return [this.lanes.compare("ne", "i32", [value], [this.lanes.zero()])];
    return [value];
  }

  loadBroadcast(dtype: DType, place: Mem): Vector {
    const size = elementBytes(dtype);
    if (size === 8) {
      const register = this.lanes.emit("vbroadcastsd", place);
      return [register, register];
    }
    if (size === 4) return [this.lanes.emit("vbroadcastss", place)];
    const bits = this.f.gp();
    this.f.emit(dtype === "int8" ? "movsx.b" : dtype === "int16" ? "movsx.w" : size === 1 ? "movzx.b" : "movzx.w", bits, place);
    if (dtype === "bfloat16") this.f.emit("shl", bits, 16);
    if (dtype !== "float16") return this.lanes.broadcast(dtype === "bool" ? "bool" : "i32", bits);
    const low = this.f.vec();
    this.f.emit("vmovd", low, bits);
    this.f.emit("vcvtph2ps.x", low, low);
    return [this.lanes.emit("vbroadcastss", low)];
  }

  // ---- stores

  store(dtype: DType, place: Mem, value: Vector, mask?: VReg): void {
    const size = elementBytes(dtype);
    if (size === 8) {
      const masks = mask ? this.lanes.splitMask(mask) : [undefined, undefined];
      value.forEach((register, i) => this.storeRegister("pd", at(place, i * this.f.isa.vectorBytes), register, masks[i]));
    } else if (size === 4) this.storeRegister("ps", place, value[0]!, mask);
    else if (this.lanes.isWideIsa) this.storeSmall(dtype, place, value[0]!, mask);
    else if (!mask) this.storePacked(dtype, place, value[0]!);
    else {
      const slot = this.slot();
      this.storePacked(dtype, slot, value[0]!);
      this.copyLanes(size, (lane) => at(slot, lane * size), (lane) => at(place, lane * size), mask);
    }
  }

  private storeRegister(kind: "ps" | "pd", place: Mem, value: VReg, mask: VReg | undefined): void {
    if (!mask) this.f.emit(`vmovups${this.lanes.w}`, place, value);
    else if (this.lanes.isWideIsa) this.f.emitMasked(`vmovu${kind}.z`, mask, false, place, value);
    else this.f.emit(`vmaskmov${kind}.y`, place, mask, value);
  }

  /** AVX-512: narrowing stores. */
  private storeSmall(dtype: DType, place: Mem, value: VReg, mask: VReg | undefined): void {
    const put = (mnemonic: string, ...operands: readonly (VReg | number)[]): void => {
      if (mask) this.f.emitMasked(`${mnemonic}.z`, mask, false, place, ...operands);
      else this.f.emit(`${mnemonic}.z`, place, ...operands);
    };
    if (dtype === "float16") put("vcvtps2ph", value, 0);
    else if (dtype === "bfloat16") this.storeBfloat16(place, value, mask);
    else if (dtype === "bool") put("vpmovdb", this.ones(value));
    else put(elementBytes(dtype) === 1 ? "vpmovdb" : "vpmovdw", value);
  }

  private storeBfloat16(place: Mem, value: VReg, mask: VReg | undefined): void {
    const { f } = this;
    const bits = f.vec();
    if (f.isa.bf16) f.emit("vcvtneps2bf16.z", bits, value);
    else f.emit("vpmovdw.z", bits, this.toBfloat16(value));
    if (mask) f.emitMasked("vmovdqu16.y", mask, false, place, bits);
    else f.emit("vmovups.y", place, bits);
  }

  private ones(mask: VReg): VReg {
    return this.lanes.cast("bool", "i32", [mask])[0]!;
  }

  /** Round to nearest even in the low 16 bits; NaN stays NaN. */
  private toBfloat16(value: VReg): VReg {
    const { lanes } = this;
    const odd = lanes.emit("vpand", lanes.emit("vpsrld", value, 16), lanes.splat("i32", 1)[0]!);
    const rounded = lanes.emit("vpaddd", lanes.emit("vpaddd", value, odd), lanes.splat("i32", 0x7fff)[0]!);
    const isNan = lanes.operate("isNan", "f32", [[value]])[0]!;
    const quiet = lanes.emit("vpor", value, lanes.splat("i32", 0x400000)[0]!);
    return lanes.emit("vpsrld", lanes.blend("i32", isNan, [quiet], [rounded])[0]!, 16);
  }

  /** AVX2: eight dwords to eight packed elements, by a byte shuffle in each half. */
  private storePacked(dtype: DType, place: Mem, value: VReg): void {
    const { f, lanes } = this;
    if (dtype === "float16") return f.emit("vcvtps2ph.y", place, value, 0);
    const bits = dtype === "bool" ? this.ones(value) : dtype === "bfloat16" ? this.toBfloat16(value) : value;
    const size = elementBytes(dtype);
    const order = Array.from({ length: 16 }, (_, i) => (i < 4 * size ? Math.floor(i / size) * 4 + (i % size) : 0x80));
    const shuffled = lanes.emit("vpshufb", bits, f.constant(Uint8Array.from([...order, ...order]), 32));
    const packed = f.vec();
    if (size === 2) {
      f.emit("vpermq.y", packed, shuffled, 0x08);
      f.emit("vmovups.x", place, packed);
    } else {
      f.emit("vpunpckldq.x", packed, shuffled, lanes.high(shuffled));
      f.emit("vmovq", place, packed);
    }
  }

  storeFirst(dtype: DType, place: Mem, value: Vector): void {
    const { f } = this;
    const first = value[0]!;
    switch (dtype) {
      case "float32": return f.emit("vmovss", place, first);
      case "float64": return f.emit("vmovsd", place, first);
      case "int32": case "uint32": return f.emit("vmovd", place, first);
      case "int64": case "uint64": return f.emit("vmovq", place, first);
      case "bool": return f.emit("mov.b", place, this.lanes.firstToGp("bool", value));
      default: {
        const half = f.vec();
        const bits = f.gp();
        if (dtype === "float16") f.emit("vcvtps2ph.x", half, first, 0);
        f.emit("vmovd", bits, dtype === "float16" ? half : dtype === "bfloat16" ? this.toBfloat16(first) : first);
        f.emit(elementBytes(dtype) === 1 ? "mov.b" : "mov.w", place, bits);
      }
    }
  }

  // ---- offsets per lane

  gather(dtype: DType, place: Mem, offsets: VReg, mask?: VReg): Vector {
    const size = elementBytes(dtype);
    if (size === 4) return [this.gatherRegister("vgatherdps", place, offsets, size, mask)];
    if (size === 8) {
      const masks = mask ? this.lanes.splitMask(mask) : [undefined, undefined];
      return [offsets, this.lanes.high(offsets)].map((part, i) => this.gatherRegister("vgatherdpd", place, part, size, masks[i]));
    }
    const slot = this.slot();
    if (mask) this.f.emit(`vmovups${this.lanes.w}`, slot, this.lanes.zero());
    this.copyLanes(size, this.offsetPlaces(place, offsets, size), (lane) => at(slot, lane * size), mask);
    return this.load(dtype, slot);
  }

  private gatherRegister(mnemonic: string, place: Mem, offsets: VReg, size: 4 | 8, mask: VReg | undefined): VReg {
    const { f, lanes } = this;
    const result = lanes.zero();
    const active = f.mask();
    if (lanes.isWideIsa) {
      if (mask) f.emit("kmovw", active, mask);
      else f.emit("kxnorw", active, active, active);
    } else if (mask) f.emit("vmovaps.y", active, mask);
    else f.emit("vpcmpeqd.y", active, active, active);
    const source: Mem = { ...place, index: offsets, scale: size };
    if (lanes.isWideIsa) f.emitMasked(`${mnemonic}.z`, active, false, result, source);
    else f.emit(`${mnemonic}.y`, result, source, active);
    return result;
  }

  scatter(dtype: DType, place: Mem, offsets: VReg, value: Vector, mask?: VReg): void {
    const size = elementBytes(dtype);
    const slot = this.slot(isWide(scalarTypeOf(dtype)) ? 2 : 1);
    this.store(dtype, slot, value);
    this.copyLanes(size, (lane) => at(slot, lane * size), this.offsetPlaces(place, offsets, size), mask);
  }

  /** Stores the offsets in the frame; each call answers one lane's memory operand. */
  private offsetPlaces(place: Mem, offsets: VReg, size: number): (lane: number) => Mem {
    assert(place.index === undefined, "a gathered place has no index");
    const slot = this.slot();
    this.f.emit(`vmovups${this.lanes.w}`, slot, offsets);
    return (lane) => {
      const offset = this.f.gp();
      this.f.emit("movsxd", offset, at(slot, lane * 4));
      return { ...place, index: offset, scale: size as 1 | 2 | 4 | 8 };
    };
  }

  /** Copies one element per active lane. */
  private copyLanes(size: number, from: (lane: number) => Mem, to: (lane: number) => Mem, mask?: VReg): void {
    const { f } = this;
    const flags = mask ? this.slot() : undefined;
    if (flags) f.emit(`vmovups${this.lanes.w}`, flags, this.ones(mask!));
    const suffix = { 1: ".b", 2: ".w", 4: ".d", 8: ".q" }[size]!;
    for (let lane = 0; lane < this.lanes.count; lane++) {
      const skip = f.label("skip");
      if (flags) {
        f.emit("cmp.d", at(flags, lane * 4), 0);
        f.jump("e", skip);
      }
      const element = f.gp();
      f.emit("xor", element, element);
      f.emit(`mov${suffix}`, element, from(lane));
      f.emit(`mov${suffix}`, to(lane), element);
      f.bind(skip);
    }
  }

  /** AVX2 has no conversion between 64-bit integers and doubles. */
  convertWide(mnemonic: "vcvttsd2si" | "vcvtsi2sd", value: Vector): Vector {
    const { f } = this;
    const slot = this.slot(2);
    const width = f.isa.vectorBytes;
    value.forEach((register, i) => f.emit(`vmovups${this.lanes.w}`, at(slot, i * width), register));
    for (let lane = 0; lane < this.lanes.count; lane++) {
      const place = at(slot, lane * 8);
      if (mnemonic === "vcvttsd2si") {
        const whole = f.gp();
        f.emit(mnemonic, whole, place);
        f.emit("mov", place, whole);
      } else {
        const number = f.vec();
        f.emit("vxorps.x", number, number, number);
        f.emit(mnemonic, number, number, place);
        f.emit("vmovsd", place, number);
      }
    }
    return value.map((_, i) => this.lanes.emit("vmovups", at(slot, i * width)));
  }

  private slot(vectors = 1): Mem {
    return this.f.stackSlot(vectors * this.f.isa.vectorBytes, this.f.isa.vectorBytes);
  }
}
