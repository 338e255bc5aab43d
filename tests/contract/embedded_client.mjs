// supabase-js against the embedded Supabase; run by test_embedded_javascript.py, prints one JSON object.
import { createRequire } from "node:module";
const [, , packages, url, publishable, secret, email, password] = process.argv;
const { createClient } = await import(createRequire(packages).resolve("@supabase/supabase-js"));
const result = {};

const connect = (key, vsn) => createClient(url, key, { auth: { persistSession: false }, realtime: { vsn } });
const joined = (channel) =>
   new Promise((resolve) => channel.subscribe((state, error) => resolve(error ? `${state} ${error.message}` : state)));
const within = (promise, what) =>
   Promise.race([promise, new Promise((_, no) => setTimeout(() => no(new Error(`no ${what}`)), 5000))]);

for (const vsn of ["1.0.0", "2.0.0"]) {
   const person = connect(publishable, vsn);
   const { data: session, error } = await person.auth.signInWithPassword({ email, password });
   if (error) throw error;
   await person.realtime.setAuth(session.session.access_token);
   const own = session.user.id;
   const heard = {};

   const notes = person.channel(`user:${own}`, { config: { private: true } });
   const told = new Promise((resolve) => notes.on("broadcast", { event: "note" }, resolve));
   heard.own = await joined(notes);
   const { error: refused } = await person.from("notes").insert({ body: `from ${vsn}` });
   if (refused) throw refused;
   heard.note = (await within(told, "note")).payload.body;

   heard.stranger = await joined(person.channel("user:somebody", { config: { private: true } }));

   const room = (client, key) =>
      client.channel("room:js", { config: { private: true, broadcast: { ack: true, self: true }, presence: { key } } });
   const mine = room(person, "person");
   const echo = new Promise((resolve) => mine.on("broadcast", { event: "hello" }, resolve));
   const bytes = new Promise((resolve) => mine.on("broadcast", { event: "bytes" }, resolve));
   const came = new Promise((resolve) =>
      mine.on("presence", { event: "join" }, ({ key }) => key === "worker" && resolve(key)),
   );
   heard.room = await joined(mine);
   heard.acknowledged = await mine.send({ type: "broadcast", event: "hello", payload: { vsn } });
   heard.echo = (await within(echo, "echo")).payload;
   const worker = connect(secret, vsn);
   const theirs = room(worker, "worker");
   theirs.on("presence", { event: "sync" }, () => {});
   await joined(theirs);
   await theirs.track({ slots: 4 });
   heard.came = await within(came, "presence");
   if (vsn === "2.0.0") {
      await theirs.send({ type: "broadcast", event: "bytes", payload: new Uint8Array([1, 2, 3]).buffer });
      heard.bytes = [...new Uint8Array((await within(bytes, "bytes")).payload)];
   }

   // As bytes, which go bare, and as a Blob, which goes in a form under an empty name.
   const files = person.storage.from("artifacts");
   const { error: failed } = await files.upload(`${own}/${vsn}.txt`, new TextEncoder().encode("text"), { contentType: "text/plain" });
   if (failed) throw failed;
   const { error: unfit } = await files.upload(`${own}/${vsn}-blob.txt`, new Blob(["blob"], { type: "text/plain" }));
   if (unfit) throw unfit;
   heard.blob = await (await files.download(`${own}/${vsn}-blob.txt`)).data.text();
   const { data: signed } = await files.createSignedUrl(`${own}/${vsn}.txt`, 60);
   heard.file = await (await fetch(signed.signedUrl)).text();
   heard.sum = (await person.rpc("add_numbers", { a: 2, b: 3 })).data;
   result[vsn] = heard;
   await person.removeAllChannels();
   await worker.removeAllChannels();
}
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
