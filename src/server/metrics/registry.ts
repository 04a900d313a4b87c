/**
 * Metrics and their text: counters, gauges and histograms with labels, rendered in Prometheus' text format.
 *
 * The data plane holds children (`family.labels(…)`) and only adds to numbers; names, labels and text are the
 * concern of whoever renders. A child stays until it is removed, as its model goes, so the number of children is
 * bounded by what is loaded.
 * Source: Prometheus, "Exposition formats", text-based format 0.0.4.
 */
import { assert } from "../../base/index.ts";

export type Labels = Readonly<Record<string, string>>;

/** One time series, or those of one histogram. */
interface Child {
  /** Lines of text. @param labels ready for the inside of braces, or empty */
  write(name: string, labels: string, lines: string[]): void;
}

export class Counter implements Child {
  value = 0;

  inc(by = 1): void {
    this.value += by;
  }

  write(name: string, labels: string, lines: string[]): void {
    lines.push(sample(name, labels, this.value));
  }
}

export class Gauge implements Child {
  value = 0;

  set(value: number): void {
    this.value = value;
  }

  inc(by = 1): void {
    this.value += by;
  }

  write(name: string, labels: string, lines: string[]): void {
    lines.push(sample(name, labels, this.value));
  }
}

export class Histogram implements Child {
  /** Ascending upper bounds, inclusive; what lies above the last counts in `+Inf`. */
  readonly bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    let low = 0;
    let high = this.bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (value <= this.bounds[middle]!) high = middle;
      else low = middle + 1;
    }
    this.#counts[low]!++;
    this.#sum += value;
  }

  write(name: string, labels: string, lines: string[]): void {
    const comma = labels === "" ? "" : ",";
    let below = 0;
    for (let i = 0; i <= this.bounds.length; i++) {
      below += this.#counts[i]!;
      const bound = i < this.bounds.length ? number(this.bounds[i]!) : "+Inf";
      lines.push(sample(`${name}_bucket`, `${labels}${comma}le="${bound}"`, below));
    }
    lines.push(sample(`${name}_sum`, labels, this.#sum), sample(`${name}_count`, labels, below));
  }
}

/** A metric's name with one child per combination of label values. */
export class Family<T extends Child> {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly labelNames: readonly string[];
  readonly #create: () => T;
  readonly #children = new Map<string, { readonly labels: Labels; readonly child: T }>();

  constructor(type: Family<T>["type"], name: string, help: string, labelNames: readonly string[], create: () => T) {
    assert(/^[a-zA-Z_:][\w:]*$/.test(name), `metric name ${name}`);
    assert(labelNames.every((label) => /^[a-zA-Z_]\w*$/.test(label) && label !== "le"), `labels of metric ${name}`);
    this.type = type;
    this.name = name;
    this.help = help;
    this.labelNames = labelNames;
    this.#create = create;
  }

  /** The child of these label values, made when it is new; hold it where it is used often. A label left out is empty. */
  labels(labels: Labels = {}): T {
    const key = this.labelNames.filter((name) => labels[name]).map((name) => `${name}="${escapeLabel(labels[name]!)}"`).join(",");
    let entry = this.#children.get(key);
    if (entry === undefined) this.#children.set(key, (entry = { labels, child: this.#create() }));
    return entry.child;
  }

  /** Drops all children that carry these values. */
  remove(labels: Labels): void {
    for (const [key, entry] of this.#children) {
      if (Object.entries(labels).every(([name, value]) => entry.labels[name] === value)) this.#children.delete(key);
    }
  }

  write(lines: string[]): void {
    lines.push(`# HELP ${this.name} ${escapeHelp(this.help)}`, `# TYPE ${this.name} ${this.type}`);
    for (const [key, { child }] of this.#children) child.write(this.name, key, lines);
  }
}

export class MetricsRegistry {
  readonly #families = new Map<string, Family<Counter> | Family<Gauge> | Family<Histogram>>();
  readonly #collectors: (() => void)[] = [];

  counter(name: string, help: string, labelNames: readonly string[] = []): Family<Counter> {
    return this.#add(new Family("counter", name, help, labelNames, () => new Counter()));
  }

  gauge(name: string, help: string, labelNames: readonly string[] = []): Family<Gauge> {
    return this.#add(new Family("gauge", name, help, labelNames, () => new Gauge()));
  }

  /** @param bounds ascending upper bounds of the buckets, without infinity */
  histogram(name: string, help: string, labelNames: readonly string[], bounds: readonly number[]): Family<Histogram> {
    assert(bounds.every((bound, i) => Number.isFinite(bound) && (i === 0 || bound > bounds[i - 1]!)), `buckets of metric ${name}`);
    return this.#add(new Family("histogram", name, help, labelNames, () => new Histogram(bounds)));
  }

  /** Asks to be called before each rendering, for gauges that are read rather than kept. */
  onCollect(collect: () => void): void {
    this.#collectors.push(collect);
  }

  /** Drops every family's children that carry these values, as when a model goes. */
  remove(labels: Labels): void {
    for (const family of this.#families.values()) {
      if (Object.keys(labels).every((name) => family.labelNames.includes(name))) family.remove(labels);
    }
  }

  /** The text that `/metrics` answers with. */
  render(): string {
    for (const collect of this.#collectors) collect();
    const lines: string[] = [];
    for (const family of this.#families.values()) family.write(lines);
    return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
  }

  #add<T extends Family<Counter> | Family<Gauge> | Family<Histogram>>(family: T): T {
    assert(!this.#families.has(family.name), `metric ${family.name} registered twice`);
    this.#families.set(family.name, family);
    return family;
  }
}

/** What `Content-Type` says of `render`'s text. */
export const METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

function sample(name: string, labels: string, value: number): string {
  return labels === "" ? `${name} ${number(value)}` : `${name}{${labels}} ${number(value)}`;
}

function number(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  return String(value);
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
