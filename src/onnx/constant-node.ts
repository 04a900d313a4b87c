/** The Constant operator's attributes to a constant: exactly one of its value forms. Source: ONNX Constant-25. */
import { UserError } from "../base/index.ts";
import type { AttributeValue, TensorConstant } from "../ir/index.ts";
import type { Binding } from "./attributes.ts";

/** @throws UserError when no value form is given */
export function constantOfNode(attributes: ReadonlyMap<string, Binding>, label: string): TensorConstant {
  for (const [name, convert] of Object.entries(FORMS)) {
    const binding = attributes.get(name);
    const made = binding && convert(binding.make());
    if (made) return made;
  }
  throw new UserError("model-invalid", `${label}: none of the attributes ${Object.keys(FORMS).join(", ")} holds a value.`);
}

const FORMS: Readonly<Record<string, (value: AttributeValue) => TensorConstant | undefined>> = {
  value: tensor,
  sparse_value: tensor,
  value_int: (value) => (typeof value === "number" || typeof value === "bigint" ? integers([value], []) : undefined),
  value_ints: (value) => (Array.isArray(value) ? integers(value as readonly number[], [value.length]) : undefined),
  value_float: (value) => (typeof value === "number" ? floats([value], []) : undefined),
  value_floats: (value) => (Array.isArray(value) ? floats(value as readonly number[], [value.length]) : undefined),
  value_string: (value) => (typeof value === "string" ? strings([value], []) : undefined),
  value_strings: (value) => (Array.isArray(value) ? strings(value as readonly string[], [value.length]) : undefined),
};

function tensor(value: AttributeValue): TensorConstant | undefined {
  return typeof value === "object" && "constant" in value ? value : undefined;
}

function integers(items: readonly (number | bigint)[], dims: readonly number[]): TensorConstant {
  return { dtype: "int64", dims, constant: { bytes: new Uint8Array(BigInt64Array.from(items, (item) => BigInt(item)).buffer) } };
}

function floats(items: readonly number[], dims: readonly number[]): TensorConstant {
  return { dtype: "float32", dims, constant: { bytes: new Uint8Array(Float32Array.from(items).buffer) } };
}

function strings(items: readonly string[], dims: readonly number[]): TensorConstant {
  return { dtype: "string", dims, constant: { bytes: new Uint8Array(0), strings: items } };
}
