// Keeps files of Storage as lite's own store does (same places), but never holds one in memory: lite's collects an
// upload in pieces and joins them, which takes twice the size of the file.
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { copyFile, mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

const digest = async (source, sink) => {
   const hash = createHash("md5");
   const hashing = async function* (parts) {
      for await (const part of parts) {
         hash.update(part);
         yield part;
      }
   };
   await (sink ? pipeline(source, hashing, sink) : pipeline(source, hash));
   return `"${hash.digest("hex")}"`;
};

/** Replace the methods of lite's file store that read or write contents. */
export const stream = (store) => {
   const incoming = join(store.basePath, ".incoming"); // no bucket's name begins with a dot
   store.uploadObject = async (bucket, name, _version, body, mimetype, cacheControl) => {
      const place = store.filePath(bucket, name);
      const fresh = join(incoming, randomUUID());
      await mkdir(incoming, { recursive: true });
      try {
         const source = body instanceof Uint8Array ? Readable.from([body]) : Readable.fromWeb(body);
         const eTag = await digest(source, createWriteStream(fresh));
         const { size, mtime } = await stat(fresh);
         await mkdir(dirname(place), { recursive: true });
         await rename(fresh, place); // who reads the old file meanwhile reads all of it
         return { cacheControl, contentLength: size, size, mimetype, lastModified: mtime, eTag };
      } catch (error) {
         await rm(fresh, { force: true });
         throw error;
      }
   };
   store.getObject = async (bucket, name) => {
      const place = store.filePath(bucket, name);
      const found = await stat(place);
      const eTag = `"${createHash("md5").update(`${place}:${found.mtimeMs}`).digest("hex")}"`;
      return {
         httpStatusCode: 200,
         metadata: store.buildMetadata(found, eTag, name),
         body: Readable.toWeb(createReadStream(place)),
      };
   };
   store.copyObject = async (bucket, name, _version, toBucket, toName) => {
      const place = store.filePath(toBucket, toName);
      await mkdir(dirname(place), { recursive: true });
      await copyFile(store.filePath(bucket, name), place);
      return {
         httpStatusCode: 200,
         eTag: await digest(createReadStream(place)),
         lastModified: (await stat(place)).mtime,
      };
   };
   return rm(incoming, { recursive: true, force: true }); // what a killed lite left
};
