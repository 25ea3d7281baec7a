import assert from "node:assert/strict"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { after, test } from "node:test"
import { backendOfFile, loadTools, ToolsFileError } from "../src/index.ts"

// Far from the clone: no folder above this one has @reins/worker-kit or zod in its node_modules.
const folder = mkdtempSync(join(tmpdir(), "reins-tools-"))
after(() => rmSync(folder, { recursive: true, force: true }))

function write(name: string, text: string): string {
  const file = join(folder, name)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  return file
}

const imports = `import { defineTool, ToolError } from "@reins/worker-kit"\nimport { z } from "zod"\n`
const tool = (name: string): string =>
  `defineTool({ name: "${name}", description: "d", input: z.strictObject({ text: z.string() }), effect: "pure", run: ({ text }) => text.toUpperCase() })`

async function refusal(file: string): Promise<string> {
  try {
    await loadTools(file)
  } catch (error) {
    assert.ok(error instanceof ToolsFileError, String(error))
    assert.deepEqual([error.code, error.retryable], ["tools-file", false])
    return error.message
  }
  return assert.fail("It was loaded.")
}

test("a backend is called like its file", () => {
  assert.equal(backendOfFile("/somewhere/shop.ts"), "shop")
  assert.equal(backendOfFile("./my-tools.worker.mjs"), "my-tools.worker")
})

test("a file anywhere finds the kit and zod, and its tools by whatever names it exports them", async () => {
  const file = write(
    "shop.ts",
    `${imports}
    interface Unused { readonly erased: true }
    export const shout = ${tool("shout")}
    export const both = [${tool("one")}, ${tool("two")}, shout]
    export default ${tool("main")}
    export const answer: number = 42
    export const nothing = null
    export type { Unused }`,
  )
  const tools = await loadTools(file)
  assert.deepEqual(tools.map(({ name }) => name).sort(), ["main", "one", "shout", "two"])
  assert.deepEqual(tools.find(({ name }) => name === "shout")?.inputSchema, {
    type: "object",
    properties: { text: { type: "string" } },
    required: ["text"],
    additionalProperties: false,
  })
})

test("the kit that a file finds is the kit that runs it", async () => {
  const file = write("same.mjs", `${imports}export const kit = ToolError\nexport const shout = ${tool("shout")}`)
  await loadTools(file)
  const { kit } = (await import(file)) as { kit: unknown }
  assert.equal(kit, (await import("../src/index.ts")).ToolError)
})

test("what a file's author has installed comes first", async () => {
  write("own/node_modules/zod/package.json", '{"name":"zod","version":"0.0.1","type":"module","exports":"./index.js"}')
  write("own/node_modules/zod/index.js", "export const z = 'their own'\n")
  const file = write(
    "own/mine.ts",
    `import { z } from "zod"\nimport { ToolAnswer } from "@reins/worker-kit"\n
    export const hand = { name: String(z), inputSchema: { type: "object" }, run: () => ToolAnswer.of(1) }`,
  )
  assert.deepEqual(
    (await loadTools(file)).map(({ name }) => name),
    ["their own"],
  )
})

test("a file that cannot be used says why", async () => {
  assert.match(await refusal(join(folder, "absent.ts")), /absent\.ts cannot be loaded: .*Cannot find module/)
  assert.match(await refusal(write("broken.ts", "export const = 1")), /broken\.ts cannot be loaded/)
  assert.match(await refusal(write("enum.ts", "export enum A { B }")), /enum\.ts cannot be loaded: .*enum is not supported/)
  assert.match(await refusal(write("throws.ts", "throw new Error('no database')")), /throws\.ts cannot be loaded: no database/)
  assert.match(await refusal(write("lodash.ts", 'import "no-such-package-anywhere"')), /Cannot find package 'no-such-package-anywhere'/)
  assert.match(await refusal(write("empty.ts", "export const answer = 42")), /exports no tool\. Export what defineTool/)
  const twoWords = tool("two words")
  assert.match(await refusal(write("name.ts", `${imports}export const t = ${twoWords}`)), /A tool's name matches/)
})
