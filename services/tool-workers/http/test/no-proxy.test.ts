import assert from "node:assert/strict"
import { execFile } from "node:child_process"
import process from "node:process"
import { test } from "node:test"
import { promisify } from "node:util"
import { closedUrl, serve } from "./server.ts"

test("a proxy in the environment is not used", async () => {
  await using server = await serve((_, response) => response.end("direct"))
  const proxy = await closedUrl()
  const script = `
    const { Connections } = await import(${JSON.stringify(new URL("../src/exchange.ts", import.meta.url).href)})
    const url = new URL(${JSON.stringify(server.url)})
    const said = []
    for (const keep of [true, false]) {
      const how = { keep, signal: new AbortController().signal, bytesMax: () => 100 }
      said.push((await new Connections().exchange({ method: "GET", url, headers: {}, body: null }, how)).body.toString())
    }
    said.push(await fetch(url).then((response) => response.text(), () => "by the proxy"))
    process.stdout.write(said.join(", "))
  `
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script], {
    env: { ...process.env, NODE_USE_ENV_PROXY: "1", HTTP_PROXY: proxy, http_proxy: proxy, NO_PROXY: "", no_proxy: "" },
  })
  // The last one shows that Node itself would use it.
  assert.equal(stdout, "direct, direct, by the proxy")
})
