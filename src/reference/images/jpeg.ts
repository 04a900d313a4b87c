/**
 * Baseline JPEG: Huffman codes, the integer inverse transform and the smooth chroma interpolation that decoders in
 * common use apply, bit for bit.
 * Sources: ITU-T T.81; Loeffler, Ligtenberg, Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications".
 */
import { UnsupportedError } from "../../base/index.ts";
import { damaged, newPicture, type Picture } from "./image.ts";

interface Component {
  readonly id: number;
  /** Blocks per MCU across and down. */
  readonly h: number;
  readonly v: number;
  readonly quantization: number;
  dcTable: number;
  acTable: number;
  predictor: number;
  /** Samples, whole MCUs wide and high. */
  samples: Uint8Array;
  pitch: number;
}

/** Symbols by code length: a code of n bits below first[n] + count belongs there. */
interface HuffmanTable {
  readonly counts: Uint8Array;
  readonly symbols: Uint8Array;
}

interface Frame {
  readonly width: number;
  readonly height: number;
  readonly components: readonly Component[];
}

/** Natural position of the k-th coefficient in zigzag order. */
const ZIGZAG = ((): Uint8Array => {
  const order = new Uint8Array(64);
  let at = 0;
  for (let sum = 0; sum < 15; sum++) {
    for (let i = Math.max(0, sum - 7); i <= Math.min(sum, 7); i++) {
      const [row, column] = sum % 2 === 0 ? [sum - i, i] : [i, sum - i];
      order[at++] = row * 8 + column;
    }
  }
  return order;
})();

export function decodeJpeg(bytes: Uint8Array): Picture {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const quantizations: Uint16Array[] = [];
  const tables = new Map<number, HuffmanTable>();
  let frame: Frame | undefined;
  let interval = 0;
  for (let at = 2; at + 4 <= bytes.length;) {
    const marker = view.getUint16(at);
    const length = view.getUint16(at + 2);
    const content = bytes.subarray(at + 4, at + 2 + length);
    at += 2 + length;
    if (marker === 0xffdb) readQuantizations(content, quantizations);
    else if (marker === 0xffc4) readHuffman(content, tables);
    else if (marker === 0xffc0 || marker === 0xffc1) frame = readFrame(content);
    else if (marker === 0xffdd) interval = (content[0]! << 8) | content[1]!;
    else if (marker >= 0xffc2 && marker <= 0xffcf && marker !== 0xffc8 && marker !== 0xffcc) throw new UnsupportedError("unsupported", "ImageDecoder: JPEG that is not baseline (progressive or lossless); baseline is read.");
    else if (marker === 0xffda) {
      if (!frame) throw damaged("JPEG", "a scan comes before its frame");
      for (let i = 0; i < content[0]!; i++) {
        const component = frame.components.find(({ id }) => id === content[1 + 2 * i]);
        if (!component) throw damaged("JPEG", "a scan names a component that is not there");
        component.dcTable = content[2 + 2 * i]! >> 4;
        component.acTable = 16 + (content[2 + 2 * i]! & 15);
      }
      decodeScan(new BitReader(bytes, at), frame, quantizations, tables, interval);
      return toPicture(frame);
    }
  }
  throw damaged("JPEG", "it has no scan");
}

function readQuantizations(content: Uint8Array, into: Uint16Array[]): void {
  for (let at = 0; at < content.length;) {
    const wide = content[at]! >> 4;
    const table = new Uint16Array(64);
    for (let k = 0; k < 64; k++) table[ZIGZAG[k]!] = wide ? (content[at + 1 + 2 * k]! << 8) | content[at + 2 + 2 * k]! : content[at + 1 + k]!;
    into[content[at]! & 15] = table;
    at += 1 + (wide ? 128 : 64);
  }
}

function readHuffman(content: Uint8Array, into: Map<number, HuffmanTable>): void {
  for (let at = 0; at + 17 <= content.length;) {
    const counts = content.subarray(at + 1, at + 17);
    const total = counts.reduce((a, b) => a + b, 0);
    into.set(content[at]!, { counts, symbols: content.subarray(at + 17, at + 17 + total) });
    at += 17 + total;
  }
}

function readFrame(content: Uint8Array): Frame {
  if (content[0] !== 8) throw new UnsupportedError("unsupported", `ImageDecoder: JPEG with ${content[0]} bits per sample; 8 are read.`);
  const components = Array.from({ length: content[5]! }, (_, i): Component => {
    const at = 6 + 3 * i;
    return { id: content[at]!, h: content[at + 1]! >> 4, v: content[at + 1]! & 15, quantization: content[at + 2]!, dcTable: 0, acTable: 16, predictor: 0, samples: new Uint8Array(0), pitch: 0 };
  });
  if ((components.length !== 1 && components.length !== 3) || components.some(({ h, v }) => h < 1 || v < 1 || h > 4 || v > 4)) throw new UnsupportedError("unsupported", `ImageDecoder: JPEG with ${components.length} components; 1 or 3 are read.`);
  return { width: (content[3]! << 8) | content[4]!, height: (content[1]! << 8) | content[2]!, components };
}

class BitReader {
  private readonly bytes: Uint8Array;
  private position: number;
  private bits = 0;
  private count = 0;

  constructor(bytes: Uint8Array, position: number) {
    this.bytes = bytes;
    this.position = position;
  }

  /** After the data's end, zeros. */
  bit(): number {
    if (this.count === 0) {
      const byte = this.bytes[this.position] ?? 0;
      if (byte !== 0xff) this.position++;
      else if (this.bytes[this.position + 1] === 0) this.position += 2;
      this.bits = byte === 0xff && this.bytes[this.position - 1] !== 0 ? 0 : byte;
      this.count = 8;
    }
    return (this.bits >> --this.count) & 1;
  }

  /** A number of n bits whose first bit tells its sign. */
  signed(n: number): number {
    let value = 0;
    for (let i = 0; i < n; i++) value = (value << 1) | this.bit();
    return n > 0 && value < 1 << (n - 1) ? value - (1 << n) + 1 : value;
  }

  symbol(table: HuffmanTable | undefined): number {
    if (!table) throw damaged("JPEG", "a Huffman table is missing");
    let code = 0;
    let first = 0;
    let before = 0;
    for (let length = 0; length < 16; length++) {
      code = (code << 1) | this.bit();
      const count = table.counts[length]!;
      if (code - first < count) return table.symbols[before + code - first]!;
      before += count;
      first = (first + count) << 1;
    }
    throw damaged("JPEG", "it has a code that its tables do not know");
  }

  /** Steps over a restart marker. */
  restart(): void {
    this.count = 0;
    if (this.bytes[this.position] === 0xff) this.position += 2;
  }
}

function decodeScan(reader: BitReader, frame: Frame, quantizations: readonly Uint16Array[], tables: ReadonlyMap<number, HuffmanTable>, interval: number): void {
  const across = Math.ceil(frame.width / (8 * Math.max(...frame.components.map(({ h }) => h))));
  const down = Math.ceil(frame.height / (8 * Math.max(...frame.components.map(({ v }) => v))));
  newPicture(frame.width, frame.height, "JPEG");
  for (const component of frame.components) {
    component.pitch = across * component.h * 8;
    component.samples = new Uint8Array(component.pitch * down * component.v * 8);
  }
  const block = new Int32Array(64);
  for (let mcu = 0; mcu < across * down; mcu++) {
    if (interval > 0 && mcu > 0 && mcu % interval === 0) {
      reader.restart();
      for (const component of frame.components) component.predictor = 0;
    }
    for (const component of frame.components) {
      const quantization = quantizations[component.quantization];
      if (!quantization) throw damaged("JPEG", "a quantization table is missing");
      for (let b = 0; b < component.h * component.v; b++) {
        readBlock(reader, component, quantization, tables, block);
        const column = (mcu % across) * component.h + (b % component.h);
        const row = Math.floor(mcu / across) * component.v + Math.floor(b / component.h);
        inverseTransform(block, component.samples, row * 8 * component.pitch + column * 8, component.pitch);
      }
    }
  }
}

function readBlock(reader: BitReader, component: Component, quantization: Uint16Array, tables: ReadonlyMap<number, HuffmanTable>, block: Int32Array): void {
  block.fill(0);
  component.predictor += reader.signed(reader.symbol(tables.get(component.dcTable)));
  block[0] = component.predictor * quantization[0]!;
  for (let k = 1; k < 64; k++) {
    const symbol = reader.symbol(tables.get(component.acTable));
    const size = symbol & 15;
    if (size === 0 && symbol !== 0xf0) return;
    k += symbol >> 4;
    if (k > 63) throw damaged("JPEG", "a block has too many coefficients");
    if (size > 0) block[ZIGZAG[k]!] = reader.signed(size) * quantization[ZIGZAG[k]!]!;
  }
}

/** Cosines of the transform in 13 fractional bits. */
const fixed = (value: number): number => Math.round(value * 8192);
const [C0298, C0390, C0541, C0765, C0899, C1175, C1501, C1847, C1961, C2053, C2562, C3072] = [0.298631336, 0.390180644, 0.5411961, 0.765366865, 0.899976223, 1.175875602, 1.50132111, 1.847759065, 1.96157056, 2.053119869, 2.562915447, 3.072711026].map(fixed) as [number, number, number, number, number, number, number, number, number, number, number, number];

/** Eight values a stride apart, in place, rounded down by `shift` bits. */
function transformLine(x: Int32Array, at: number, step: number, shift: number): void {
  const [x0, x1, x2, x3, x4, x5, x6, x7] = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => x[at + i * step]!) as [number, number, number, number, number, number, number, number];
  const turned = (x2 + x6) * C0541;
  const [low, high] = [turned - x6 * C1847, turned + x2 * C0765];
  const [sum, gap] = [(x0 + x4) * 8192, (x0 - x4) * 8192];
  const even = [sum + high, gap + low, gap - low, sum - high];
  const all = (x7 + x3 + x5 + x1) * C1175;
  const [a, b] = [-(x7 + x1) * C0899, -(x5 + x3) * C2562];
  const [c, d] = [all - (x7 + x3) * C1961, all - (x5 + x1) * C0390];
  const odd = [x1 * C1501 + a + d, x3 * C3072 + b + c, x5 * C2053 + b + d, x7 * C0298 + a + c];
  const half = 2 ** (shift - 1);
  for (let i = 0; i < 4; i++) {
    x[at + i * step] = Math.floor((even[i]! + odd[i]! + half) / 2 ** shift);
    x[at + (7 - i) * step] = Math.floor((even[i]! - odd[i]! + half) / 2 ** shift);
  }
}

function inverseTransform(block: Int32Array, samples: Uint8Array, at: number, pitch: number): void {
  for (let column = 0; column < 8; column++) transformLine(block, column, 8, 11);
  for (let row = 0; row < 8; row++) {
    transformLine(block, row * 8, 1, 18);
    for (let column = 0; column < 8; column++) samples[at + row * pitch + column] = clamp(block[row * 8 + column]! + 128);
  }
}

const clamp = (value: number): number => Math.min(Math.max(value, 0), 255);

/** Reads a component at the picture's resolution. */
function sampler(component: Component, frame: Frame, maxH: number, maxV: number): (x: number, y: number) => number {
  const { samples, pitch } = component;
  const width = Math.ceil((frame.width * component.h) / maxH);
  const height = Math.ceil((frame.height * component.v) / maxV);
  const [sx, sy] = [maxH / component.h, maxV / component.v];
  const at = (x: number, y: number): number => samples[Math.min(Math.max(y, 0), height - 1) * pitch + Math.min(Math.max(x, 0), width - 1)]!;
  if (sx === 2 && (sy === 1 || sy === 2) && width > 2) {
    // Three quarters of the nearest sample and one of the next, in each doubled direction.
    const column = (x: number, y: number): number => (sy === 1 ? at(x, y) : 3 * at(x, y >> 1) + at(x, (y >> 1) + (y % 2 === 0 ? -1 : 1)));
    return (x, y) => {
      const near = column(x >> 1, y);
      const next = column((x >> 1) + (x % 2 === 0 ? -1 : 1), y);
      if (sy === 2) return (3 * near + next + (x % 2 === 0 ? 8 : 7)) >> 4;
      return (3 * near + next + (x % 2 === 0 ? 1 : 2)) >> 2;
    };
  }
  return (x, y) => at(Math.floor(x / sx), Math.floor(y / sy));
}

/** Parts of 65,536, rounded. */
const part = (value: number): number => Math.round(value * 65536);

function toPicture(frame: Frame): Picture {
  const picture = newPicture(frame.width, frame.height, "JPEG");
  const [maxH, maxV] = [Math.max(...frame.components.map(({ h }) => h)), Math.max(...frame.components.map(({ v }) => v))];
  const read = frame.components.map((component) => sampler(component, frame, maxH, maxV));
  for (let y = 0; y < frame.height; y++) {
    for (let x = 0; x < frame.width; x++) {
      const light = read[0]!(x, y);
      const blue = (read[1]?.(x, y) ?? 128) - 128;
      const red = (read[2]?.(x, y) ?? 128) - 128;
      const at = (y * frame.width + x) * 3;
      picture.rgb[at] = clamp(light + ((part(1.402) * red + 32768) >> 16));
      picture.rgb[at + 1] = clamp(light + ((-part(0.34414) * blue - part(0.71414) * red + 32768) >> 16));
      picture.rgb[at + 2] = clamp(light + ((part(1.772) * blue + 32768) >> 16));
    }
  }
  return picture;
}
