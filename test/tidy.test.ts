// The code's own rules, as a test. What a tool already holds (format, lint, unused files) stays with the tool.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { basename, dirname, join, normalize } from "node:path"
import { before, test } from "node:test"
import { fileURLToPath } from "node:url"
import { definitions, sessionFacts } from "@reins/events"

type Tag = "pure" | "base" | "client" | "process" | "assembly"

interface Workspace {
  readonly folder: string
  readonly name: string
  readonly tag: Tag
  readonly declared: ReadonlySet<string>
}

const root = fileURLToPath(new URL("..", import.meta.url))
const read = (path: string): string => readFileSync(join(root, path), "utf8")

/** Everything git tracks or would track: a new file is under the rules before it is committed. */
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], { cwd: root, encoding: "utf8" })
  .split("\n")
  .filter((file) => file !== "" && existsSync(join(root, file)))
const sources = files.filter((file) => /\.(tsx?|mjs)$/.test(file))
/** What people wrote. This file is left out of the rules about words, since it must spell the words it forbids. */
const texts = files.filter((file) => !/\.(patch|avsc|jsonl|png|svg|ico)$/.test(file) && file !== "test/tidy.test.ts")
const workspaces = files.filter((file) => file.endsWith("/package.json")).map((file) => workspaceOf(dirname(file)))
const services = workspaces.filter((workspace) => workspace.folder.startsWith("services/"))

/** Which tags a tag may import. Processes never import each other: they talk only by events. A client runs elsewhere, as in a browser. */
const mayImport: Readonly<Record<Tag, readonly Tag[]>> = {
  pure: ["pure"],
  base: ["pure", "base"],
  client: ["pure"],
  process: ["pure", "base"],
  assembly: ["pure", "base", "client", "process", "assembly"],
}

/** What a process is made of, each in its own file, so that who has read one has read all. */
const processFiles = ["contract.ts", "decide.ts", "service.ts", "config.ts", "main.ts"]
/** Carries the tag, so that nothing may lean on it, but it is the provider's side of the wire and not a listener of the log. */
const notListening = ["services/simulated-model"]
/** Processes of another kind. The gateway acts on requests and not on records: it decides nothing. */
const filesOf: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(notListening.map((folder) => [folder, []])),
  "services/gateway": ["contract.ts", "config.ts", "gateway.ts", "main.ts"],
}
/** A tool worker's contract and decisions are the worker kit's; its own part is what it performs. */
const workerFiles = ["perform.ts", "service.ts", "config.ts", "main.ts"]

before(() => {
  assert.ok(sources.length > 20 && workspaces.length > 10, "The file list is too short to prove anything.")
})

test("an import goes only where its tag may go, and only to what its workspace declares", () => {
  const wrong: string[] = []
  for (const file of sources) {
    const from = workspaces.find((workspace) => file.startsWith(`${workspace.folder}/`) && !isNested(file, workspace))
    if (from === undefined) continue
    for (const specifier of importsOf(read(file))) {
      if (specifier.startsWith(".")) {
        if (!normalize(join(dirname(file), specifier)).startsWith(`${from.folder}/`))
          wrong.push(`${file} leaves its workspace: ${specifier}`)
        continue
      }
      if (specifier.startsWith("node:")) continue
      const name = specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/")
      if (name !== from.name && !from.declared.has(name))
        wrong.push(`${file} imports ${name}, which ${from.folder}/package.json does not declare`)
      const to: Workspace | undefined = workspaces.find((workspace) => workspace.name === name)
      if (to === undefined || to === from) continue
      if (!mayImport[from.tag].includes(to.tag)) wrong.push(`${file} (${from.tag}) imports ${name} (${to.tag})`)
    }
  }
  assert.deepEqual(wrong, [])
})

test("schemas know neither Node nor the browser", () => {
  for (const { folder } of workspaces.filter((workspace) => workspace.tag === "pure")) {
    const { compilerOptions } = JSON.parse(read(join(folder, "tsconfig.json"))) as { compilerOptions?: Record<string, unknown> }
    assert.deepEqual(compilerOptions?.["types"] ?? [], [], `${folder}/tsconfig.json lets types in`)
    assert.equal(compilerOptions?.["lib"], undefined, `${folder}/tsconfig.json changes the library`)
    const outside = sources.filter(
      (file) => file.startsWith(`${folder}/src/`) && importsOf(read(file)).some((name) => name.startsWith("node:")),
    )
    assert.deepEqual(outside, [])
  }
})

test("kafkajs has one home among the services", () => {
  const users = sources.filter(
    (file) =>
      /^(services|schemas)\//.test(file) && importsOf(read(file)).some((name) => /^(@platformatic\/kafka|kafkajs)($|\/)/.test(name)),
  )
  assert.deepEqual(
    users.filter((file) => !file.startsWith("services/log/src/kafka/") && !file.startsWith("services/log/test/")),
    [],
  )
})

test("every service says what it hears and says, and is made of the same files", () => {
  const missing: string[] = []
  for (const { folder, tag } of services) {
    const wanted = tag !== "process" ? [] : (filesOf[folder] ?? (folder.startsWith("services/tool-workers/") ? workerFiles : processFiles))
    for (const file of ["README.md", ...wanted.map((name) => `src/${name}`)]) {
      if (!files.includes(`${folder}/${file}`)) missing.push(`${folder}/${file}`)
    }
  }
  assert.deepEqual(missing, [])
})

test("every event has an example that holds, a row in the catalogue and a case in the fold", () => {
  const catalogue = read("schemas/README.md")
  const fold = read("schemas/session/src/evolve.ts")
  for (const { type, schema, example } of definitions) {
    assert.ok(schema.safeParse(example).success, `the example of ${type} does not fit its schema`)
    assert.ok(catalogue.includes(`\`${type}\``), `schemas/README.md does not list ${type}`)
  }
  for (const { type } of sessionFacts) assert.ok(fold.includes(`"${type}"`), `evolve.ts does not name ${type}`)
})

test("a name says what is in the file", () => {
  const vague = /^(utils?|helpers?|types?|common|misc|shared|stuff|lib|constants|interfaces|manager|handler)$/
  const parts = (file: string): string[] => file.split("/").map((part) => part.replace(/(\.test)?\.[a-z]+$/, ""))
  assert.deepEqual(
    sources.filter((file) => parts(file).some((part) => vague.test(part))),
    [],
  )
  assert.deepEqual(
    sources.filter((file) => !/^[a-z0-9]+(-[a-z0-9]+)*(\.test)?\.(tsx?|mjs)$/.test(basename(file))),
    [],
    "file names are kebab-case",
  )
})

test("a test lies where the runner looks for it", () => {
  const strayed = sources.filter((file) => /\.(test|spec)\.ts$/.test(file) && !/^(test|infra)\/|\/test\//.test(file))
  assert.deepEqual(strayed, [])
})

test("nothing is left over", () => {
  const leftovers: readonly (readonly [string, RegExp])[] = [
    ["a note to oneself", /\b(TODO|FIXME|XXX|HACK)\b/],
    ["a test that runs alone", /\b(test|it|describe|suite)\.only\(|\bonly: true/],
    ["a test that never runs", /\b(test|it|describe|suite)\.(skip|todo)\(|\b(skip|todo): (true|")/],
    ["a breakpoint", /^\s*debugger\b/m],
    ["a merge conflict", /^(<{7}|>{7}) /m],
  ]
  const found: string[] = []
  for (const file of texts.filter((name) => name !== "package-lock.json")) {
    const text = read(file)
    for (const [what, pattern] of leftovers) {
      const hit = pattern.exec(text)
      if (hit !== null) found.push(`${file}:${lineOf(text, hit.index)} ${what}`)
    }
  }
  assert.deepEqual(found, [])
})

test("the top level holds what it should and nothing else", () => {
  const source = ["services", "schemas", "infra", "test", "docker-compose.yml", "package.json", "tsconfig.json", "turbo.json"]
  const beside = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "LICENSE", "package-lock.json", "patches"]
  const settings = [
    ".ci",
    ".dockerignore",
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    ".npmrc",
    ".oxlintrc.json",
    "biome.json",
    "knip.json",
  ]
  const there = new Set(files.map((file) => file.split("/", 1).join("")))
  assert.deepEqual(
    [...there].filter((name) => ![...source, ...beside, ...settings].includes(name)),
    [],
    "these do not belong here",
  )
  assert.deepEqual(
    [...source, ...beside].filter((name) => !there.has(name)),
    [],
    "these are missing",
  )
})

test("an installation depends on no host, and every version is exact", () => {
  const lock = JSON.parse(read("package-lock.json")) as { packages: Record<string, { resolved?: string }> }
  const hosts = Object.values(lock.packages).filter((entry) => entry.resolved?.includes("//"))
  assert.deepEqual(hosts, [], "run npm install with the .npmrc of this folder: omit-lockfile-registry-resolved")
  for (const file of files.filter((name) => basename(name) === "package.json")) {
    const manifest = JSON.parse(read(file)) as Record<string, Record<string, string> | undefined>
    for (const kind of ["dependencies", "devDependencies", "optionalDependencies"]) {
      for (const [name, version] of Object.entries(manifest[kind] ?? {})) {
        assert.match(version, name.startsWith("@reins/") ? /^\*$/ : /^(npm:@?[\w/-]+@)?\d+\.\d+\.\d+(-[\w.]+)?$/, `${file}: ${name}`)
      }
    }
  }
})

test("no file knows the machine it was written on", () => {
  const machine = /(?<![\w.}-])(\/home\/[a-z]|\/Users\/[A-Za-z]|\/root\/|\/work\/(main|shared|\.)|[A-Z]:\\+Users)/
  assert.deepEqual(
    texts.filter((file) => machine.test(read(file))),
    [],
  )
})

function workspaceOf(folder: string): Workspace {
  const manifest = JSON.parse(read(join(folder, "package.json"))) as Record<string, unknown> & { readonly name: string }
  const { tags } = JSON.parse(read(join(folder, "turbo.json"))) as { readonly tags: readonly [Tag] }
  const kinds = ["dependencies", "devDependencies", "optionalDependencies"]
  return { folder, name: manifest.name, tag: tags[0], declared: new Set(kinds.flatMap((kind) => Object.keys(manifest[kind] ?? {}))) }
}

function isNested(file: string, outer: Workspace): boolean {
  return workspaces.some((inner) => inner.folder.startsWith(`${outer.folder}/`) && file.startsWith(`${inner.folder}/`))
}

/** Static and dynamic imports, and exports from. Types count too: a process that knows another's types knows the other. */
function importsOf(text: string): readonly string[] {
  const statements = text.matchAll(/^(?:import|export)\b[^"'`;]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/gm)
  return [...statements].map((match) => match[1] ?? match[2] ?? match[3] ?? "")
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split("\n").length
}
