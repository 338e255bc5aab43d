// @supabase/lite without the fixes of lite.mjs: answers one request for each path on the command line.
import { createApi } from "@supabase/lite/cli";

console.log = console.info = console.debug = console.error; // stdout is for the answers
const [root, key, ...calls] = process.argv.slice(2);
process.chdir(root);
const api = await createApi({ root });
const app = await api.project.local.createApp("supabase/config.toml", { admin: false });
app.connection.rlsState = "active";
const answers = [];
for (const call of calls) {
   const { path, body } = JSON.parse(call);
   const request = new Request(`http://127.0.0.1${path}`, {
      method: "POST",
      headers: { apikey: key, "content-type": "application/json" },
      body: JSON.stringify(body),
   });
   const answer = await app.fetch(request, { peerAddress: null });
   answers.push([answer.status, await answer.json()]);
}
process.stdout.write(JSON.stringify(answers), () => process.exit(0));
