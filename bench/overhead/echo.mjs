/**
 * The bare peers of `serve-overhead`: node:http and node:http2 that read a body into memory they have, and answer with bytes
 * they have. What a server in Node costs at the least. Usage: node echo.mjs REPLY_BYTES GRPC_REPLY_BYTES; prints its ports.
 */
import { createServer } from "node:http";
import { createServer as createServer2 } from "node:http2";

const [replyBytes, grpcReplyBytes] = process.argv.slice(2).map(Number);
const place = Buffer.alloc(2 ** 20);
const reply = Buffer.alloc(replyBytes, 1);
const grpcReply = Buffer.alloc(grpcReplyBytes, 1);

const http = createServer({ noDelay: true, keepAliveTimeout: 75_000 }, (request, response) => {
  let at = 0;
  request.on("data", (chunk) => {
    place.set(chunk, at);
    at += chunk.length;
  });
  request.on("end", () => {
    response.writeHead(200, ["Content-Type", "application/octet-stream", "Content-Length", String(replyBytes)]);
    response.end(reply);
  });
});
const http2 = createServer2({ settings: { initialWindowSize: 4 * 2 ** 20, maxFrameSize: 2 ** 20 } });
http2.on("session", (session) => session.setLocalWindowSize(64 * 2 ** 20));
http2.on("stream", (stream) => {
  let at = 0;
  stream.on("data", (chunk) => {
    place.set(chunk, at);
    at += chunk.length;
  });
  stream.on("end", () => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(grpcReply);
  });
});
http.listen(0, "127.0.0.1", () => http2.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ http: http.address().port, grpc: http2.address().port }))));
