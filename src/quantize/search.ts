/**
 * The fewest layers to keep in float: the most sensitive first, as many as the target needs, then each given back that
 * turns out not to be needed. Scores are measured, never predicted.
 */

/** Layers kept in float, and the figure that was measured with them. */
export interface Mix {
  readonly kept: ReadonlySet<string>;
  readonly score: number;
}

/** Most tries to give a kept layer back. */
const MAX_RETURNS = 12;

/**
 * @param layers most sensitive first
 * @param measure the figure with these layers in float
 * @returns the best mix found; its score is below `target` when no mix with a quantized layer reaches it
 */
export async function fewestInFloat(layers: readonly string[], target: number, measure: (kept: ReadonlySet<string>) => Promise<number>): Promise<Mix> {
  const tried: Mix[] = [];
  const attempt = async (kept: ReadonlySet<string>): Promise<Mix> => {
    const mix: Mix = { kept, score: await measure(kept) };
    tried.push(mix);
    return mix;
  };
  const first = await attempt(new Set());
  if (first.score >= target) return first;
  // Between `low` layers, too few, and `high`, enough or all but one.
  let [low, high] = [0, layers.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((await attempt(new Set(layers.slice(0, middle)))).score >= target) high = middle;
    else low = middle;
  }
  const reached = tried.filter(({ score }) => score >= target).sort((a, b) => a.kept.size - b.kept.size)[0];
  if (!reached) return tried.reduce((best, mix) => (mix.score > best.score ? mix : best));
  return giveBack(reached, target, attempt);
}

/** The least sensitive of the kept layers are the likeliest to be needless. */
async function giveBack(mix: Mix, target: number, attempt: (kept: ReadonlySet<string>) => Promise<Mix>): Promise<Mix> {
  let best = mix;
  for (const layer of [...mix.kept].reverse().slice(1, MAX_RETURNS + 1)) {
    const fewer = await attempt(new Set([...best.kept].filter((name) => name !== layer)));
    if (fewer.score >= target) best = fewer;
  }
  return best;
}
