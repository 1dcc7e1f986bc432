// The snippets of README.md compile and run, each as a program of its own.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Program, Sidecar } from "./sidecar.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

test("the snippets of the README compile strictly and run", async (t) => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const fences = [...readme.matchAll(/^```(\w*)\n([^]*?)^```$/gm)];
  const snippets = fences.filter(([, language]) => language === "ts").map(([, , text]) => text ?? "");
  assert(snippets.length > 3, "the snippets are found");
  // Inside the package, so that its own name is found as in an application.
  const dir = join(root, "dist", "snippets");
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  const names = snippets.map((_, i) => `snippet${i + 1}`);
  for (const [i, text] of snippets.entries()) writeFileSync(join(dir, `${names[i]}.ts`), `${text}\nexport {};\n`);
  const compilerOptions = { rootDir: ".", outDir: ".", declaration: false, noUnusedLocals: false };
  writeFileSync(join(dir, "tsconfig.json"), JSON.stringify({ extends: "../../tsconfig.json", compilerOptions, include: ["*.ts"], exclude: [] }));
  const compiled = await run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", dir]).catch(
    (err: { stdout: string }) => err,
  );
  assert.equal(compiled.stdout, "");
  const sidecar = await Sidecar.start(t);
  for (const [i, name] of names.entries()) {
    const program = new Program(t, `snippets/${name}.js`, [], { LOCKSIDECAR_ENDPOINT: sidecar.endpoint });
    assert.equal(await program.ended, 0, `${snippets[i]}\nprinted:\n${program.output}`);
  }
});
