import assert from "node:assert/strict"
import { readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, it } from "node:test"
import { fileURLToPath } from "node:url"
import { consoleFiles } from "../src/index.ts"

describe("the console's files", () => {
  it("are built from the sources: a page, one script, one stylesheet, and nothing inline that the policy would forbid", async () => {
    const files = await consoleFiles()
    const page = files.get("/index.html")
    assert.ok(page !== undefined)
    assert.equal(page.immutable, false)
    const html = Buffer.from(page.body).toString("utf8")
    const linked = [...html.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map((match) => match[1] as string)
    assert.deepEqual(new Set(linked.map((path) => path.split(".").at(-1))), new Set(["css", "js"]))
    for (const path of linked) {
      const file = files.get(path)
      assert.ok(file !== undefined && file.body.length > 5000, path)
      assert.equal(file.immutable, true)
    }
    assert.doesNotMatch(html, /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/i)
    // Nothing comes from anywhere else.
    const everything = [...files.values()].map(({ body }) => Buffer.from(body).toString("utf8")).join("\n")
    assert.doesNotMatch(everything, /(src|href|url|import)\s*[=(]\s*["']?https?:/)
    assert.doesNotMatch(everything, /\beval\(|new Function\(/)
  })

  it("never make markup of text", async () => {
    const folder = fileURLToPath(new URL("../app", import.meta.url))
    const sources = (await readdir(folder)).filter((name) => /\.tsx?$/.test(name))
    assert.ok(sources.length > 10)
    for (const name of sources)
      assert.doesNotMatch(
        await readFile(join(folder, name), "utf8"),
        /innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|DOMParser|createContextualFragment|javascript:/i,
        name,
      )
  })

  it("are the same ones when they are asked for again", async () => {
    assert.equal(await consoleFiles(), await consoleFiles())
  })
})
