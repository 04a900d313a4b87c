/** Every node of ai.onnx to its form at opset 25: the families' tables, joined. */
import type { Node } from "../../ir/index.ts";
import type { Rewriter } from "../rewriter.ts";
import { attributesToInputs } from "./attributes-to-inputs.ts";
import { legacy } from "./legacy.ts";
import { normalization } from "./normalization.ts";
import { resize } from "./resize.ts";
import { softmax } from "./softmax.ts";
import type { Upgrade, UpgradeTable } from "./table.ts";

/** In the order in which they apply where one operator stands in several. */
const FAMILIES: readonly UpgradeTable[] = [legacy, attributesToInputs, softmax, resize, normalization];

const UPGRADES: ReadonlyMap<string, readonly Upgrade[]> = joined();

function joined(): Map<string, Upgrade[]> {
  const all = new Map<string, Upgrade[]>();
  for (const family of FAMILIES) {
    for (const [op, upgrades] of Object.entries(family)) all.set(op, [...(all.get(op) ?? []), ...upgrades]);
  }
  return all;
}

/** Rewrites the node to the semantics of opset 25; the rewriter then holds all nodes it became. */
export function upgradeNode(node: Node, rewriter: Rewriter): void {
  for (const { until, rewrite } of UPGRADES.get(node.op) ?? []) {
    if (rewriter.opset < until && rewrite(node, rewriter) === "replaced") return;
  }
  rewriter.nodes.push(node);
}
