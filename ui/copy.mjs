// Copies htmx into the package, with its licence on top.
import { readFile, writeFile } from "node:fs/promises";

const from = new URL("node_modules/htmx.org/", import.meta.url);
const { version } = JSON.parse(await readFile(new URL("package.json", from), "utf8"));
const licence = (await readFile(new URL("LICENSE", from), "utf8")).trim();
const script = (await readFile(new URL("dist/htmx.min.js", from), "utf8")).trim();
const head = `/*! htmx ${version}, htmx.org\n\n${licence}\n*/\n`;
await writeFile(new URL("../src/instep/static/htmx.min.js", import.meta.url), head + script + "\n");
