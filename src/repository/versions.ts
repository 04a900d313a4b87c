/** Which of a model's version folders are served. */
import type { ModelConfig } from "./config.ts";

/** @param available version numbers found @returns those to serve, rising */
export function chooseVersions(config: ModelConfig, available: readonly number[]): number[] {
  const rising = [...available].sort((a, b) => a - b);
  const policy = config.version_policy ?? {};
  if (policy.all) return rising;
  if (policy.specific) return rising.filter((version) => policy.specific!.versions?.includes(version));
  return rising.slice(-(policy.latest?.num_versions || 1));
}
