// Two requests at the same time to a server that refuses the second and takes its time for the first, as
// PostgreSQL does while it starts. Prints which of them were answered in the end, by lite's driver and by ours.
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";

const [pool, folder, behind] = process.argv.slice(2);
const { Pool } = await import(pool);
const fields = ["SFATAL", "VFATAL", "C57P03", "Mthe database system is starting up"].map((field) => `${field}\0`);
const text = Buffer.from(`${fields.join("")}\0`);
const refusal = Buffer.concat([Buffer.from("E\0\0\0\0"), text]);
refusal.writeInt32BE(text.length + 4, 1);

const answered = async (kind) => {
   let count = 0;
   const server = net.createServer({ allowHalfOpen: true }, async (socket) => {
      socket.on("error", () => {});
      count += 1;
      if (count === 2) return socket.end(refusal, () => socket.destroySoon());
      if (count === 1) await sleep(300);
      const real = net.connect(behind).on("error", () => {});
      socket.pipe(real).pipe(socket);
   });
   const path = `${folder}/${kind}/.s.PGSQL.5432`;
   await once(server.listen(path), "listening");
   const driver = postgres({ host: `${folder}/${kind}`, username: "postgres", database: "postgres", max: 2 });
   const reserve = kind === "ours" ? Pool.prototype.reserve.bind(new Pool(driver.options, { path, size: 2 })) : driver.reserve;
   const requests = [1, 2].map(() =>
      reserve().then(
         () => "connection",
         () => "error",
      ),
   );
   return await Promise.all(requests.map((request) => Promise.race([request, sleep(3000, "nothing")])));
};
const said = { driver: await answered("driver"), ours: await answered("ours") };
process.stdout.write(JSON.stringify(said), () => process.exit(0));
