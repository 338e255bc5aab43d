// Serves @supabase/lite (REST, Auth, Storage; Studio apart) on two Unix sockets.
//
// Unix sockets, because on a loopback port lite's admin mode answers requests that carry no key with all
// rights. The public socket has admin mode off; Studio's has it on and lies behind a one-time link.
//
// Talks with its parent in lines. Says `prepared` when the auth and storage tables exist, waits for `serve`
// (the parent applies migrations meanwhile), says `ready` when both sockets listen.
import { once } from "node:events";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { App } from "@supabase/lite";
import { createApi } from "@supabase/lite/cli";
import { createAdaptorServer } from "@hono/node-server";
import { serveStatic } from "@hono/node-server/serve-static";
import { Hono } from "hono";
import { Pool, lost } from "./pool.mjs";
import { stream } from "./storage.mjs";

const { LITE_SOCKET, LITE_STUDIO_SOCKET, LITE_PREPARE, LITE_CONNECTIONS } = process.env;
const say = (word) => process.stdout.write(`${word}\n`);
console.log = console.info = console.debug = console.error; // stdout belongs to the conversation

const lines = createInterface({ input: process.stdin });
lines.on("close", () => process.exit(0)); // the parent is gone
const told = once(lines, "line");
setInterval(() => {}, 1 << 30); // waiting for the parent is no reason for Node.js to end

const api = await createApi({ root: process.cwd() });
const app = await api.project.local.createApp("supabase/config.toml", { admin: false });
// On its first request lite would run GRANT ALL on every table of every schema that has row-level security,
// to `anon` and `authenticated`: what a migration revoked would be granted again. bootstrap.sql makes the
// roles and their default privileges as hosted Supabase has them, so that step must not happen.
app.connection.rlsState = "active";
// lite hands a json argument of rpc() to the driver as JSON text, and the driver would make a JSON *string*
// of it (seen in 0.10.0: `cannot extract elements from a scalar`). Text that is JSON already goes as it is.
const asJson = (value) => {
   if (typeof value === "string") {
      try {
         JSON.parse(value);
         return value;
      } catch {
         return JSON.stringify(value);
      }
   }
   return JSON.stringify(value);
};
const driver = app.connection.driver;
const pool = new Pool(driver.options, { path: driver.options.path, size: Number(LITE_CONNECTIONS) });
driver.reserve = () => pool.reserve();
for (const oid of [114, 3802]) driver.options.serializers[oid] = asJson; // json, jsonb
// lite keeps the SQLSTATE of a few errors only; of all others (CHECK violations, what plpgsql raises, deadlocks)
// it makes a 500 with the code SUP. PostgREST gives the code with a status by class, and any answer can be had
// through its `PGRST` error. https://docs.postgrest.org/en/stable/references/errors.html
const KEPT_BY_LITE = /^(PT|PGRST$|21|22|42|53|55|2350[235]$|25006$)/;
const STATUSES = [
   [/^(0L|0P|28)/, 403],
   [/^(08|57P0[123])/, 503],
   [/^(09|25|2D|38|39|3B|40|54|57|58|F0|HV|XX|P0(?!001))/, 500],
];
const normalize = app.connection.normalizeDbError.bind(app.connection);
app.connection.normalizeDbError = (thrown) => {
   const error = normalize(thrown);
   const code = error?.code;
   // A SQLSTATE: codes of Node.js (ECONNREFUSED, EPIPE) have no digit, those of the driver are longer.
   if (!/^(?=.*\d)[0-9A-Z]{5}$/.test(code) || KEPT_BY_LITE.test(code)) return error;
   const status = STATUSES.find(([codes]) => codes.test(code))?.[1] ?? 400;
   const { message, detail: details = null, hint = null } = error;
   return Object.assign(new Error(JSON.stringify({ code, message, details, hint })), {
      code: "PGRST",
      detail: JSON.stringify({ status, headers: status === 503 ? { "Retry-After": "1" } : {} }),
      cause: error,
   });
};
// When lite cannot read the schema it goes on as if the database were empty: every table and function is a 404,
// which tells clients that their request is wrong. Of a database that was read the default schema is known.
const introspect = app.connection.introspect.bind(app.connection);
app.connection.introspect = async (options) => {
   const found = await introspect(options);
   if (found.default_schema === undefined) throw lost();
   return found;
};
await stream(app._storageAdapter);
if (LITE_PREPARE === "1") await app.ensureSystemSchema();
say("prepared");
await told;
await app.connection.introspect({ useCache: true }); // kept from here on: no request waits for it

const studio = new App({
   ...app.config,
   connection: app.connection,
   options: { server: { admin: true } },
});
studio._storageAdapter = app._storageAdapter;
await studio.init();
const assets = dirname(fileURLToPath(import.meta.resolve("@supabase/lite"))); // its static/ is Studio

const listen = async (fetch, path) => {
   const server = createAdaptorServer({ fetch });
   server.keepAliveTimeout = 0; // the gateway's pool decides how long connections live
   server.requestTimeout = 0;
   server.listen(path);
   await once(server, "listening");
};
process.umask(0o177);
// The gateway passes nothing on but REST, Auth and Storage: this address is for its own question only.
const live = () =>
   pool.probe().then(
      () => new Response(null, { status: 204 }),
      (error) => new Response(error.message, { status: 503 }),
   );
// The gateway sends an upload on as a stream without a length, and says the length apart: a bucket may have a limit.
const sized = (request) => {
   const bytes = request.headers.get("x-upload-bytes");
   if (bytes === null) return request;
   const headers = new Headers(request.headers);
   headers.set("content-length", bytes);
   return new Request(request, { headers, duplex: "half" });
};
await listen((request) => {
   if (new URL(request.url).pathname === "/live") return live();
   return app.fetch(sized(request), { peerAddress: null });
}, LITE_SOCKET);
const studioRoutes = new Hono()
   .use("/static/*", serveStatic({ root: assets }))
   .all("*", (context) => studio.fetch(context.req.raw, { peerAddress: "127.0.0.1" }));
await listen((request) => studioRoutes.fetch(request), LITE_STUDIO_SOCKET);
say("ready");
process.on("SIGTERM", () => process.exit(0));
