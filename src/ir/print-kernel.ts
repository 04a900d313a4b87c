/**
 * Kernels as text. Buffers and axes are numbered in order of appearance, so that two kernels that compute the same over
 * other memory have the same text: it names a kernel in the timing cache, and shows it in `inspect`.
 */
import { dimKey, type Dim } from "./dim.ts";
import type { BlockWeights, Epilogue, Kernel, MatmulOperand, StridedOperand, ZeroPoint } from "./kernel.ts";
import type { Axis, Buffer, Expr } from "./loop.ts";
import type { SequentialCondition, SequentialExpr, Statement } from "./sequential.ts";

export function printKernel(kernel: Kernel): string {
  return new Printer().kernel(kernel);
}

const list = (dims: readonly Dim[]): string => `[${dims.map(dimKey).join(", ")}]`;

class Printer {
  private readonly buffers = new Map<Buffer, string>();
  private readonly axes = new Map<Axis, string>();
  /** Subexpressions used more than once are printed once. */
  private readonly shared = new Map<Expr, string>();

  kernel(kernel: Kernel): string {
    switch (kernel.kind) {
      case "loop":
        return `loop ${kernel.axes.map((axis) => this.axis(axis)).join(", ")}: ${kernel.outputs.map((output) => `${this.buffer(output.buffer)}${output.index ? `[${output.index.map((item) => this.expr(item)).join(", ")}]` : ""} = ${this.expr(output.value)}`).join("; ")}`;
      case "matmul":
        return `matmul batch ${list(kernel.batch)} m ${dimKey(kernel.m)} n ${dimKey(kernel.n)} k ${dimKey(kernel.k)} a ${this.operand(kernel.a)} b ${this.operand(kernel.b)} out ${this.buffer(kernel.output)}${this.copy(kernel.copy)}${this.epilogue(kernel.epilogue)}`;
      case "conv":
        return `conv ${this.buffer(kernel.input)} * ${this.buffer(kernel.weights)} out ${this.buffer(kernel.output)}${this.copy(kernel.copy)} groups ${kernel.groups} kernel ${list(kernel.kernel)} strides ${list(kernel.strides)} dilations ${list(kernel.dilations)} pads ${list(kernel.pads)}${kernel.inputChannelsFirst ? " channels-first" : ""}${this.zero("input", kernel.inputZero)}${this.zero("weights", kernel.weightsZero)}${this.epilogue(kernel.epilogue)}`;
      case "attention":
        return `attention batch ${dimKey(kernel.batch)} heads ${dimKey(kernel.heads)}/${kernel.headsPerKv} queries ${dimKey(kernel.queries)} keys ${dimKey(kernel.keys)} sizes ${dimKey(kernel.headSize)}/${dimKey(kernel.valueSize)} q ${this.strided(kernel.q)} k ${this.strided(kernel.k)} v ${this.strided(kernel.v)} out ${this.strided(kernel.output)} scale ${kernel.scale}${kernel.causalOffset === undefined ? "" : ` causal ${dimKey(kernel.causalOffset)}`}${this.epilogue(kernel.mask)}`;
      case "sequential":
        return `sequential ${kernel.name} tiles ${dimKey(kernel.tiles)}: ${this.statements(kernel.body)}`;
    }
  }

  private statements(statements: readonly Statement[]): string {
    return statements.map((statement): string => {
      switch (statement.kind) {
        case "set": return `${statement.variable.name} = ${this.scalar(statement.value)}`;
        case "store": return `${this.buffer(statement.buffer)}[${this.scalar(statement.at)}] = ${this.scalar(statement.value)}`;
        case "if": return `if ${this.condition(statement.condition)} { ${this.statements(statement.then)} }${statement.otherwise.length > 0 ? ` else { ${this.statements(statement.otherwise)} }` : ""}`;
        case "while": return `while ${this.condition(statement.condition)} { ${this.statements(statement.body)} }`;
      }
    }).join("; ");
  }

  private condition(condition: SequentialCondition): string {
    if (condition.kind === "all") return condition.conditions.map((item) => this.condition(item)).join(" and ");
    return `${this.scalar(condition.a)} ${condition.compare} ${this.scalar(condition.b)}`;
  }

  private scalar(expr: SequentialExpr): string {
    switch (expr.kind) {
      case "number": return `${expr.value}${expr.type === "f32" ? "f32" : ""}`;
      case "size": return `{${dimKey(expr.value)}}`;
      case "tile": return "tile";
      case "variable": return expr.variable.name;
      case "element": return `${this.buffer(expr.buffer)}[${this.scalar(expr.at)}]`;
      case "binary": return `${expr.op}(${this.scalar(expr.a)}, ${this.scalar(expr.b)})`;
    }
  }

  private operand(operand: MatmulOperand): string {
    return `${this.buffer(operand.buffer)} strides ${list([...operand.batchStrides, operand.rowStride, operand.columnStride])}${this.zero("its", operand.zero)}${this.blocks(operand.blocks)}`;
  }

  private blocks(blocks: BlockWeights | undefined): string {
    return blocks ? ` of ${blocks.bits} bits in blocks of ${blocks.size} scales ${this.buffer(blocks.scales)}${blocks.zeros ? ` zeros ${this.buffer(blocks.zeros)}` : ""}` : "";
  }

  private copy(copy: Buffer | undefined): string {
    return copy ? ` and ${this.buffer(copy)}` : "";
  }

  private zero(whose: string, zero: ZeroPoint | undefined): string {
    if (zero === undefined) return "";
    return ` ${whose} zero ${typeof zero === "number" ? zero : this.buffer(zero)}`;
  }

  private strided(operand: StridedOperand): string {
    return `${this.buffer(operand.buffer)} strides ${list(operand.strides)}`;
  }

  private epilogue(epilogue: Epilogue | undefined): string {
    if (!epilogue) return "";
    return ` with ${epilogue.axes.map((axis) => this.axis(axis)).join(", ")}: ${this.expr(epilogue.value)}`;
  }

  private buffer(buffer: Buffer): string {
    let text = this.buffers.get(buffer);
    if (text === undefined) {
      text = `b${this.buffers.size}`;
      this.buffers.set(buffer, text);
      return `${text}:${buffer.dtype}${list(buffer.dims)}${buffer.strides ? `/${list(buffer.strides)}` : ""}`;
    }
    return text;
  }

  private axis(axis: Axis): string {
    let text = this.axes.get(axis);
    if (text === undefined) {
      text = `i${this.axes.size}`;
      this.axes.set(axis, text);
      return `${text}<${dimKey(axis.extent)}`;
    }
    return text;
  }

  private expr(expr: Expr): string {
    const known = this.shared.get(expr);
    if (known) return known;
    const text = this.fresh(expr);
    if (text.length > 24) this.shared.set(expr, `e${this.shared.size}`);
    return this.shared.has(expr) ? `(${this.shared.get(expr)}: ${text})` : text;
  }

  private fresh(expr: Expr): string {
    switch (expr.kind) {
      case "const": return `${Object.is(expr.value, -0) ? "-0" : expr.value}${expr.type}`;
      case "dim": return `{${dimKey(expr.value)}}`;
      case "axis": return this.axis(expr.axis);
      case "load": return `${this.buffer(expr.buffer)}[${expr.index.map((item) => this.expr(item)).join(", ")}]`;
      case "op": return `${expr.op}.${expr.type}(${expr.args.map((item) => this.expr(item)).join(", ")})`;
      case "cast": return `${expr.type}(${this.expr(expr.arg)})`;
      case "select": return `(${this.expr(expr.condition)} ? ${this.expr(expr.then)} : ${this.expr(expr.else)})`;
      case "reduce": return `${expr.op}[${expr.axes.map((axis) => this.axis(axis)).join(", ")}](${this.expr(expr.body)})`;
      case "accumulator": return "acc";
    }
  }
}
