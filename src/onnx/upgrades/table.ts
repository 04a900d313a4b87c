/** The form of the upgrade tables. */
import type { Rewrite } from "../rewriter.ts";

export interface Upgrade {
  /** The opset that brought the newer form: nodes of older opsets are rewritten. */
  readonly until: number;
  readonly rewrite: Rewrite;
}

/** Operator to its upgrades, oldest first; each brings the node to the next form. */
export type UpgradeTable = Readonly<Record<string, readonly Upgrade[]>>;
