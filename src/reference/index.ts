/** Plain TypeScript operators: the oracle of every kernel, and what runs where no native code exists. */
export * from "./contract.ts";
export { REFERENCE_OPERATORS } from "./catalogue.ts";
export { numbersOf } from "./elements.ts";
export { decodePicture } from "./image-decoder.ts";
export type { Picture } from "./images/image.ts";
export { quantizeNumber } from "./rounding.ts";
export { constantTensor, evaluateNode, type Feeds, hasReference, hostValueToConstant, interpret, type InterpretOptions } from "./interpreter.ts";
