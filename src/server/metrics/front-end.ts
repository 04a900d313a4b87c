/** `GET /metrics` on a port of its own, so that scraping needs no way to the models. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { METRICS_CONTENT_TYPE, type MetricsRegistry } from "./registry.ts";

export class MetricsFrontEnd {
  readonly port: number;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** @throws when the address is taken */
  static async listen(registry: MetricsRegistry, options: { readonly host?: string; readonly port: number }): Promise<MetricsFrontEnd> {
    const server = createServer({ headersTimeout: 5000, requestTimeout: 10_000 }, (request, response) => {
      const found = request.url === "/metrics" || request.url?.startsWith("/metrics?");
      const status = !found ? 404 : request.method === "GET" ? 200 : 405;
      const text = status === 200 ? registry.render() : `${JSON.stringify({ error: status === 404 ? "Not Found" : "Method Not Allowed" })}\n`;
      response.writeHead(status, { "Content-Type": status === 200 ? METRICS_CONTENT_TYPE : "application/json", "Content-Length": Buffer.byteLength(text) });
      response.end(text);
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(options.port, options.host ?? "127.0.0.1", resolve);
    });
    return new MetricsFrontEnd(server);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}
