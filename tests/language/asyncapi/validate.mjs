// node validate.mjs FOLDER FILE…: what the official parser says of each document, as one JSON object by file.
// FOLDER has it in node_modules.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, ...files] = process.argv.slice(2);
const { Parser } = createRequire(join(folder, "package.json"))("@asyncapi/parser");
const parser = new Parser();
const found = {};
for (const file of files) {
  const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"));
  found[file] = {
    channels: document ? document.channels().length : 0,
    problems: diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path: path.join("/") })),
  };
}
console.log(JSON.stringify(found));
