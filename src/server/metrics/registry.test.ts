import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { MetricsRegistry } from "./registry.ts";

function filled(): MetricsRegistry {
  const registry = new MetricsRegistry();
  const requests = registry.counter("sinter_requests_total", "Requests\nby \\ model", ["model", "reason"]);
  requests.labels({ model: 'a"b\\c\nd' }).inc();
  requests.labels({ model: "m", reason: "REJECTED" }).inc(3);
  registry.gauge("sinter_queue_depth", "Waiting requests").labels().set(-2.5);
  const seconds = registry.histogram("sinter_queue_seconds", "Time in the queue", ["model"], [0.001, 0.01, 1]);
  for (const value of [0, 0.001, 0.0011, 0.5, 7]) seconds.labels({ model: "m" }).observe(value);
  return registry;
}

test("the text names, explains and escapes", () => {
  assert.equal(filled().render(), [
    "# HELP sinter_requests_total Requests\\nby \\\\ model",
    "# TYPE sinter_requests_total counter",
    'sinter_requests_total{model="a\\"b\\\\c\\nd"} 1',
    'sinter_requests_total{model="m",reason="REJECTED"} 3',
    "# HELP sinter_queue_depth Waiting requests",
    "# TYPE sinter_queue_depth gauge",
    "sinter_queue_depth -2.5",
    "# HELP sinter_queue_seconds Time in the queue",
    "# TYPE sinter_queue_seconds histogram",
    'sinter_queue_seconds_bucket{model="m",le="0.001"} 2',
    'sinter_queue_seconds_bucket{model="m",le="0.01"} 3',
    'sinter_queue_seconds_bucket{model="m",le="1"} 4',
    'sinter_queue_seconds_bucket{model="m",le="+Inf"} 5',
    'sinter_queue_seconds_sum{model="m"} 7.5021',
    'sinter_queue_seconds_count{model="m"} 5',
    "",
  ].join("\n"));
});

test("children go with their model, and only with it", () => {
  const registry = filled();
  registry.remove({ model: "m" });
  const text = registry.render();
  assert.ok(!text.includes('model="m"'));
  assert.ok(text.includes('model="a') && text.includes("sinter_queue_depth -2.5"));
});

test("a child is made once, and gauges can be read at rendering", () => {
  const registry = new MetricsRegistry();
  const counter = registry.counter("a_total", "a", ["x"]);
  assert.equal(counter.labels({ x: "1" }), counter.labels({ x: "1" }));
  const gauge = registry.gauge("b", "b").labels();
  registry.onCollect(() => gauge.inc());
  assert.match(registry.render(), /^b 1$/m);
  assert.match(registry.render(), /^b 2$/m);
  assert.throws(() => registry.counter("b", "again"), /registered twice/);
});

const promtool = spawnSync("promtool", ["--version"]).status === 0;

test("promtool finds nothing to complain of", { skip: !promtool && "promtool is not installed" }, () => {
  const checked = spawnSync("promtool", ["check", "metrics"], { input: filled().render(), encoding: "utf8" });
  assert.equal(checked.status, 0, checked.stdout + checked.stderr);
});
