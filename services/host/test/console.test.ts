import assert from "node:assert/strict"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, it, type TestContext } from "node:test"
import type { ConsoleFile } from "@reins/console"
import { pino } from "pino"
import { answerConsole } from "../src/console.ts"

type Files = () => Promise<ReadonlyMap<string, ConsoleFile>>

const page: ConsoleFile = { body: Buffer.from("<!doctype html>"), type: "text/html; charset=utf-8", immutable: false }
const script: ConsoleFile = { body: Buffer.from("1"), type: "text/javascript; charset=utf-8", immutable: true }
const built = new Map([
  ["/index.html", page],
  ["/assets/a.js", script],
])

async function serve(t: TestContext, files: Files): Promise<string> {
  const server = createServer((request, response) => {
    if (!answerConsole(request, response, pino({ level: "silent" }), files)) response.writeHead(418).end()
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  t.after(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe("the console of a host", () => {
  it("serves what is built, and leaves every other request to the API", async (t) => {
    const url = await serve(t, async () => built)
    const root = await fetch(`${url}/?from=mail`)
    assert.equal(await root.text(), "<!doctype html>")
    assert.equal(root.headers.get("cache-control"), "no-cache")
    const asset = await fetch(`${url}/assets/a.js`)
    assert.equal(asset.headers.get("content-type"), script.type)
    assert.match(asset.headers.get("cache-control") ?? "", /immutable/)
    assert.equal((await fetch(`${url}/assets/b.js`)).status, 404)
    const head = await fetch(`${url}/`, { method: "HEAD" })
    assert.deepEqual([head.status, head.headers.get("content-length"), await head.text()], [200, "15", ""])
    for (const path of ["/v1/sessions", "/index.html", "/assetsx", "/livez"]) assert.equal((await fetch(`${url}${path}`)).status, 418, path)
    assert.equal((await fetch(`${url}/`, { method: "POST" })).status, 418)
  })

  it("says that it is being built, asks again by itself, and is there once it is", async (t) => {
    let done: (files: ReadonlyMap<string, ConsoleFile>) => void = () => undefined
    const building = new Promise<ReadonlyMap<string, ConsoleFile>>((resolve) => {
      done = resolve
    })
    const url = await serve(t, () => building)
    const meanwhile = await fetch(`${url}/`)
    assert.equal(meanwhile.status, 202)
    assert.equal(meanwhile.headers.get("refresh"), "1")
    assert.match(await meanwhile.text(), /Building the console/)
    done(built)
    assert.equal((await fetch(`${url}/`)).status, 200)
  })

  it("says what is missing where it cannot be built, as text, and under the same policy", async (t) => {
    const url = await serve(t, () => Promise.reject(new Error("It needs <b>npm ci</b>.")))
    for (const path of ["/", "/assets/a.js"]) {
      const response = await fetch(`${url}${path}`)
      assert.equal(response.status, 503)
      assert.match(response.headers.get("content-security-policy") ?? "", /^default-src 'none'/)
      assert.match(await response.text(), /&lt;b&gt;npm ci&lt;\/b&gt;/)
    }
  })
})
