/** A node against its operator's schema: known, attribute types, required attributes, numbers of inputs and outputs. */
import type { Node } from "../ir/index.ts";
import { attributeTypeName } from "./attributes.ts";
import { OPTIONAL_LEADING_INPUTS, SCHEMAS } from "./schema.ts";

/** Problems of a canonical node of ai.onnx; none when it is right. */
export function checkNode(node: Node): string[] {
  const schema = SCHEMAS.get(node.op);
  if (!schema) return [`the operator is not in ai.onnx`];
  const problems: string[] = [];
  const range = (low: number, high: number): string => (low === high ? `${low}` : high === Number.POSITIVE_INFINITY ? `at least ${low}` : `${low} to ${high}`);
  if (node.inputs.length < schema.minInputs || node.inputs.length > schema.maxInputs) {
    problems.push(`has ${node.inputs.length} inputs; expected ${range(schema.minInputs, schema.maxInputs)}`);
  } else if (!OPTIONAL_LEADING_INPUTS.has(node.op)) {
    for (let i = 0; i < schema.minInputs; i++) if (!node.inputs[i]) problems.push(`required input ${i} is missing`);
  }
  if (node.outputs.length > schema.maxOutputs) problems.push(`has ${node.outputs.length} outputs; expected ${range(schema.minOutputs, schema.maxOutputs)}`);
  for (const name of schema.required) if (node.attributes[name] === undefined) problems.push(`required attribute "${name}" is missing`);
  return problems;
}

/** Whether the attribute, as the file has it, is of the operator's type. Attributes the operator does not know pass. */
export function checkAttributeType(op: string, name: string, type: number): string | undefined {
  const expected = SCHEMAS.get(op)?.types.get(name);
  if (expected === undefined || expected === 0 || expected === type) return undefined;
  return `attribute "${name}" is of type ${attributeTypeName(type)}; expected ${attributeTypeName(expected)}`;
}
