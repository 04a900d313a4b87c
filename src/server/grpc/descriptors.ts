/**
 * What the services are, as the descriptors that protoc would make of their protos: from the same tables that messages are
 * written and read by, so that the two cannot differ. Field names and numbers are the wire's; messages are called after their
 * method or the field they are in.
 * Source: google/protobuf/descriptor.proto.
 */
import { ProtoWriter } from "../../base/index.ts";
import { choice, encode, type EnumType, type FieldType, list, type Message, message, type Plain, type Scalar } from "./schema.ts";

export interface DescribedMethod {
  readonly request: Message;
  readonly response: Message;
  readonly streams?: readonly ("request" | "response")[];
}

export interface DescribedService {
  readonly file: string;
  readonly package: string;
  readonly service: string;
  readonly methods: Readonly<Record<string, DescribedMethod>>;
}

const Field = message({
  // Presence of the last matters, though it may be 0: it is the member of a oneof.
  name: [1, "string"], number: [3, "int32"], label: [4, "int32"], type: [5, "int32"], type_name: [6, "string"], oneof_index: [9, choice("int32")],
});
const Enum = message({ name: [1, "string"], value: [2, list(message({ name: [1, "string"], number: [2, choice("int32")] }))] });
const Entry = message({ name: [1, "string"], field: [2, list(Field)], options: [7, message({ map_entry: [7, "bool"] })] });
const Descriptor = message({ name: [1, "string"], field: [2, list(Field)], nested_type: [3, list(Entry)], enum_type: [4, list(Enum)], oneof_decl: [8, list(message({ name: [1, "string"] }))] });
const Method = message({ name: [1, "string"], input_type: [2, "string"], output_type: [3, "string"], client_streaming: [5, "bool"], server_streaming: [6, "bool"] });
const File = message({ name: [1, "string"], package: [2, "string"], message_type: [4, list(Descriptor)], service: [6, list(message({ name: [1, "string"], method: [2, list(Method)] }))], syntax: [12, "string"] });

/** Numbers of FieldDescriptorProto.Type. */
const TYPES: Readonly<Record<Scalar | "message" | "enum", number>> = { double: 1, float: 2, int64: 3, uint64: 4, int32: 5, bool: 8, string: 9, message: 11, bytes: 12, uint32: 13, enum: 14 };
const [OPTIONAL, REPEATED] = [1, 3];

/** A FileDescriptorProto as bytes, and the full names of what is in it. */
export function describeService({ file, package: scope, service, methods }: DescribedService): { readonly bytes: Buffer; readonly symbols: readonly string[] } {
  const writer = new FileWriter(scope);
  const method = Object.entries(methods).map(([name, { request, response, streams = [] }]): Plain => ({
    name, input_type: writer.named(request, `${name}Request`), output_type: writer.named(response, `${name}Response`), client_streaming: streams.includes("request"), server_streaming: streams.includes("response"),
  }));
  const proto = new ProtoWriter();
  encode(proto, File, { name: file, package: scope, message_type: writer.messages, service: [{ name: service, method }], syntax: "proto3" });
  const symbols = [`${scope}.${service}`, ...method.map(({ name }) => `${scope}.${service}.${String(name)}`), ...writer.messages.map(({ name }) => `${scope}.${String(name)}`)];
  return { bytes: Buffer.concat(proto.finish()), symbols };
}

class FileWriter {
  readonly messages: Plain[] = [];
  readonly #scope: string;
  readonly #names = new Map<Message, string>();
  readonly #taken = new Set<string>();

  constructor(scope: string) {
    this.#scope = scope;
  }

  /** The type's full name; described when it is met for the first time. */
  named(type: Message, wish: string): string {
    let name = this.#names.get(type);
    if (name === undefined) {
      for (let i = 2, free = (name = wish); this.#taken.has(free); i++) name = free = `${wish}${i}`;
      this.#names.set(type, name);
      this.#taken.add(name);
      this.messages.push(this.#describe(type, name));
    }
    return `.${this.#scope}.${name}`;
  }

  #describe(type: Message, name: string): Plain {
    const [nested, enums, field]: [Plain[], Plain[], Plain[]] = [[], [], []];
    let hasChoice = false;
    for (const [key, [number, of]] of Object.entries(type.fields)) {
      const add = (label: number, single: Exclude<FieldType, { readonly kind: "list" | "map" | "choice" }>, more: Plain = {}): void => {
        field.push({ name: key, number, label, ...this.#typeOf(single, key, name, enums), ...more });
      };
      if (typeof of === "string" || of.kind === "message" || of.kind === "enum") add(OPTIONAL, of);
      else if (of.kind === "list") add(REPEATED, of.of);
      else if (of.kind === "choice") {
        hasChoice = true;
        add(OPTIONAL, of.of, { oneof_index: 0 });
      } else {
        const entry = `${camel(key)}Entry`;
        nested.push({ name: entry, field: [{ name: "key", number: 1, label: OPTIONAL, type: TYPES[of.key] }, { name: "value", number: 2, label: OPTIONAL, ...this.#typeOf(of.value, key, name, enums) }], options: { map_entry: true } });
        field.push({ name: key, number, label: REPEATED, type: TYPES.message, type_name: `.${this.#scope}.${name}.${entry}` });
      }
    }
    // Members of a oneof must stand together.
    field.sort((a, b) => Number(a["oneof_index"] === 0) - Number(b["oneof_index"] === 0));
    return { name, field, nested_type: nested, enum_type: enums, oneof_decl: hasChoice ? [{ name: "choice" }] : [] };
  }

  #typeOf(type: Scalar | EnumType | Message, key: string, within: string, enums: Plain[]): Plain {
    if (typeof type === "string") return { type: TYPES[type] };
    if (type.kind === "message") return { type: TYPES.message, type_name: this.named(type, camel(key)) };
    const name = camel(key);
    if (!enums.some((one) => one["name"] === name)) enums.push({ name, value: Object.entries(type.values).map(([value, number]) => ({ name: value, number })) });
    return { type: TYPES.enum, type_name: `.${this.#scope}.${within}.${name}` };
  }
}

function camel(name: string): string {
  return name.split("_").map((part) => part.charAt(0).toUpperCase() + part.slice(1)).join("");
}
