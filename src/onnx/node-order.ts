/** Topological order of a graph's nodes, stable: nodes already in order stay as they are. */
import { captures, type Graph, type Node, subgraphsOf } from "../ir/index.ts";

/** Sorts in place. @returns the nodes of a cycle, in order, when there is one */
export function sortNodes(graph: Graph): readonly Node[] | undefined {
  const position = new Map(graph.nodes.map((node, i) => [node, i] as const));
  const needs = graph.nodes.map((node) => neededNodes(node, position));
  if (needs.every((list, i) => list.every((needed) => needed < i))) return undefined;
  const { order, cycle } = depthFirst(needs);
  if (cycle) return cycle.map((i) => graph.nodes[i]!);
  graph.nodes = order.map((i) => graph.nodes[i]!);
  return undefined;
}

function neededNodes(node: Node, position: ReadonlyMap<Node, number>): number[] {
  const needed: number[] = [];
  const note = (producer: Node | undefined): void => {
    const at = producer && position.get(producer);
    if (at !== undefined) needed.push(at);
  };
  for (const input of node.inputs) note(input?.producer);
  for (const subgraph of subgraphsOf(node)) for (const value of captures(subgraph)) note(value.producer);
  return needed;
}

function depthFirst(needs: readonly (readonly number[])[]): { order: number[]; cycle?: number[] } {
  const order: number[] = [];
  const state = new Uint8Array(needs.length); // 0 unseen, 1 on the path, 2 done
  for (let root = 0; root < needs.length; root++) {
    if (state[root] !== 0) continue;
    const path = [root];
    const next = [0];
    state[root] = 1;
    while (path.length > 0) {
      const at = path.at(-1)!;
      const child = needs[at]![next[next.length - 1]!++];
      if (child === undefined) {
        state[at] = 2;
        order.push(at);
        path.pop();
        next.pop();
      } else if (state[child] === 1) return { order, cycle: path.slice(path.indexOf(child)) };
      else if (state[child] === 0) {
        state[child] = 1;
        path.push(child);
        next.push(0);
      }
    }
  }
  return { order };
}
