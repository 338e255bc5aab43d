// Connections to PostgreSQL for lite, in place of the pool of its driver.
//
// The pool of postgres 3.4.9 loses requests when connections break, as they do whenever PostgreSQL is killed:
// - `reserve()`, the only way in which lite gets a connection, leaves a refused request in the queue. It is then
//   given a connection that nobody gives back, and the request whose turn it was waits for ever.
// - A connection that broke while it was reserved is offered again as if it were open.
// - After every failed attempt it waits longer, up to 20 s, and with `reserve()` the count never starts anew.
// Here a connection is used until it breaks and never mended, each wait has a bound, and the place of a broken
// connection is free at once, even while its user still holds it.
import net from "node:net";
import postgres from "postgres";

const CONNECT_SECONDS = 5;
const TURN_SECONDS = 10; // for a connection to be given back while all are in use
const ANSWER_SECONDS = 65; // a little more than PostgreSQL's own limit, which a frozen server does not keep
const LIFE_SECONDS = 45 * 60; // so that what PostgreSQL keeps in memory for a session does not grow for ever
const LIMITS = { statement_timeout: "60s", idle_in_transaction_session_timeout: "60s" };

const problem = (code, message, cause) => Object.assign(new Error(message, { cause }), { code });
/** The error of a request that met a broken connection. */
export const lost = (cause) => problem("08006", "The database is restarting: try again in a second.", cause);

class Link {
   lost = false;
   #sql;
   #socket;
   #waiting = new Set(); // how to fail the statements under way
   #born = performance.now();
   #onLost;

   constructor(options, path, onLost) {
      this.#onLost = onLost;
      this.#socket = net.connect(path);
      // Registered before the driver's own, so that no statement follows the one that met the end: on another
      // connection it would run outside of its transaction, with the rights of the owner.
      this.#socket.on("error", (error) => this.discard(error));
      this.#socket.on("close", () => this.discard());
      let given = false;
      this.#sql = postgres({
         ...options,
         max: 1,
         idle_timeout: null,
         max_lifetime: null, // the driver would not wait for the end of a transaction
         connect_timeout: null, // `run` has a bound
         backoff: 0,
         connection: { ...options.connection, ...LIMITS },
         shared: { retries: 0, typeArrayMap: options.shared.typeArrayMap },
         socket: () => {
            if (given) throw lost(); // it would connect anew
            given = true;
            return this.#socket; // Node.js keeps what is written before it is connected
         },
      });
   }

   get old() {
      return performance.now() - this.#born > LIFE_SECONDS * 1000;
   }

   run(text, parameters = [], seconds = ANSWER_SECONDS) {
      return new Promise((resolve, reject) => {
         if (this.lost) return reject(lost());
         const late = () => this.discard(new Error(`no answer within ${seconds} s`));
         const timer = setTimeout(late, seconds * 1000);
         const settled = (settle) => (value) => {
            clearTimeout(timer);
            this.#waiting.delete(reject);
            settle(value);
         };
         this.#waiting.add(reject);
         this.#sql.unsafe(text, parameters).then(settled(resolve), settled(reject));
      });
   }

   discard(cause) {
      if (this.lost) return;
      this.lost = true;
      for (const reject of this.#waiting) reject(lost(cause));
      this.#sql.end({ timeout: 0 }).finally(() => this.#socket.destroy());
      this.#onLost(this);
   }
}

/** At most `size` connections to the Unix socket `path`; `options` are the parsed ones of a driver. */
export class Pool {
   #options;
   #path;
   #size;
   #links = new Set();
   #idle = [];
   #turns = []; // of those who wait for a connection, oldest first
   #opening = 0;

   constructor(options, { path, size }) {
      this.#options = options;
      this.#path = path;
      this.#size = size;
   }

   /** Borrow a connection: `{ unsafe(text, parameters), release() }`, as the driver's `reserve()`. */
   async reserve() {
      const link = await this.#turn();
      let held = true;
      return {
         unsafe: (text, parameters) => link.run(text, parameters),
         release: () => {
            if (held) this.#giveBack(link);
            held = false;
         },
      };
   }

   /** Find out whether this process can work with the database, on a connection of its own. */
   async probe() {
      const link = await this.#connect(() => {});
      link.discard();
   }

   #turn() {
      return new Promise((resolve, reject) => {
         const turn = { resolve, reject };
         const late = () => {
            this.#turns.splice(this.#turns.indexOf(turn), 1);
            reject(problem("53300", `All ${this.#size} connections to the database are in use: try again in a second.`));
         };
         turn.timer = setTimeout(late, TURN_SECONDS * 1000);
         this.#turns.push(turn);
         this.#serve();
      });
   }

   #next() {
      const turn = this.#turns.shift();
      clearTimeout(turn?.timer);
      return turn;
   }

   #serve() {
      while (this.#turns.length && this.#idle.length) this.#next().resolve(this.#idle.pop());
      while (this.#opening < this.#turns.length && this.#links.size + this.#opening < this.#size) this.#open();
   }

   async #open() {
      this.#opening += 1;
      try {
         const link = await this.#connect((gone) => {
            this.#links.delete(gone);
            this.#idle = this.#idle.filter((other) => other !== gone);
            this.#serve();
         });
         this.#links.add(link);
         this.#idle.push(link);
      } catch (error) {
         this.#next()?.reject(error); // one attempt for each who waits, so that nobody waits for a dead server
      }
      this.#opening -= 1;
      this.#serve();
   }

   async #connect(onLost) {
      const link = new Link(this.#options, this.#path, onLost);
      try {
         await link.run("select 1", [], CONNECT_SECONDS);
      } catch (error) {
         link.discard(error);
         throw lost(error);
      }
      return link;
   }

   #giveBack(link) {
      if (link.lost) return;
      if (link.old) return link.discard();
      this.#idle.push(link);
      this.#serve();
   }
}
