/**
 * Parts of the API that only callers with a secret header may use: `--http-restricted-api` and `--grpc-restricted-protocol`.
 * Source: Triton's "Limit Endpoint Access".
 */
import { timingSafeEqual } from "node:crypto";
import { UserError } from "../../base/index.ts";

const CATEGORIES = ["health", "metadata", "inference", "shared-memory", "model-config", "model-repository", "statistics", "trace", "logging"] as const;
export type ApiCategory = (typeof CATEGORIES)[number];

interface Secret {
  readonly header: string;
  readonly value: Buffer;
}

export class Restrictions {
  readonly #secrets = new Map<ApiCategory, Secret>();

  /**
   * @param groups each "category,category:key=value"; a category may stand in one group only
   * @param what "api" or "protocol", for errors; @param prefix of the header's name
   */
  constructor(groups: readonly string[] = [], what = "api", prefix = "") {
    for (const group of groups) {
      const match = /^([^:]+):([^=]+)=(.+)$/.exec(group);
      if (!match) throw new UserError("option-invalid", `Restricted ${what} "${group}": expected CATEGORY[,CATEGORY]:KEY=VALUE.`);
      const secret = { header: `${prefix}${match[2]}`.toLowerCase(), value: Buffer.from(match[3]!) };
      for (const name of match[1]!.split(",")) {
        const category = CATEGORIES.find((one) => one === name);
        if (!category) throw new UserError("option-invalid", `unknown restricted ${what} '${name}'; expected one of ${CATEGORIES.join(", ")}`);
        if (this.#secrets.has(category)) throw new UserError("option-invalid", `${what} '${name}' can not be specified in multiple config groups`);
        this.#secrets.set(category, secret);
      }
    }
  }

  /** The header that is missing or wrong; undefined when the call may pass. */
  missing(category: ApiCategory, headers: Readonly<Record<string, unknown>>): string | undefined {
    const secret = this.#secrets.get(category);
    if (!secret) return undefined;
    const given = Buffer.from(String(headers[secret.header] ?? ""));
    return given.length === secret.value.length && timingSafeEqual(given, secret.value) ? undefined : secret.header;
  }
}
