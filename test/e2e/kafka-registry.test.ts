import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http"
import { createServer } from "node:net"
import { buffer } from "node:stream/consumers"
import { after, before, describe, it } from "node:test"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { LogUnavailableError, SchemaIncompatibleError, type SchemaRegistry } from "@reins/log"
import { confluentRegistry } from "@reins/log/confluent"

const skip = await skipWithoutKafka()

const schemaOf = (name: string, fields: readonly object[]): string =>
  JSON.stringify({ type: "record", name, namespace: "test.reins", fields })

describe("a Confluent registry", { skip }, () => {
  let url = ""
  let registry: SchemaRegistry

  before(async () => {
    url = (await sharedKafka()).registryUrl ?? ""
    registry = confluentRegistry({ url })
  })

  const freshName = (): string => `R${randomUUID().replaceAll("-", "")}`
  const id = { name: "id", type: "string" }

  it("gives one schema one id, also when four processes register it at once", async () => {
    const name = freshName()
    const schema = schemaOf(name, [id])
    const ids = await Promise.all([1, 2, 3, 4].map(() => confluentRegistry({ url }).register(`test.reins.${name}`, schema)))
    assert.equal(new Set(ids).size, 1)
    assert.equal(await registry.register(`test.reins.${name}`, schema), ids[0])
    const known = await registry.schema(ids[0] as number)
    assert.deepEqual(JSON.parse(known ?? ""), JSON.parse(schema))
  })

  it("keeps every subject fully transitive, and refuses what breaks an earlier version", async () => {
    const name = freshName()
    const subject = `test.reins.${name}`
    await registry.register(subject, schemaOf(name, [id]))
    const config = await fetch(`${url}/config/${subject}`)
    assert.deepEqual(await config.json(), { compatibilityLevel: "FULL_TRANSITIVE" })
    await registry.register(subject, schemaOf(name, [id, { name: "note", type: "string", default: "" }]))
    await assert.rejects(registry.register(subject, schemaOf(name, [{ name: "other", type: "string" }])), (error) => {
      assert.ok(error instanceof SchemaIncompatibleError)
      assert.match(error.message, new RegExp(subject))
      return true
    })
  })

  it("is asked again by a process that got no answer to what it had done all the same", async () => {
    const asked: string[] = []
    const passOn = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const { method = "GET", url: path = "/", headers } = request
      asked.push(`${method} ${path.split("/").at(-1)}`)
      const body = method === "GET" ? {} : { body: await buffer(request) }
      const said = await fetch(new URL(path, url), { method, headers: { "content-type": headers["content-type"] ?? "" }, ...body })
      const text = await said.text()
      const done = asked.filter((each) => each === asked.at(-1)).length
      // The first time, what was asked is done and nobody hears of it.
      if (method !== "GET" && done === 1) return
      response.writeHead(said.status, { "content-type": said.headers.get("content-type") ?? "" }).end(text)
    }
    const slow = createHttpServer((request, response) => void passOn(request, response))
    await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve))
    try {
      const { port } = slow.address() as { port: number }
      const behind = `http://127.0.0.1:${port}${new URL(url).pathname}`
      const name = freshName()
      const schema = schemaOf(name, [id])
      const given = await confluentRegistry({ url: behind, timeoutMs: 1500 }).register(`test.reins.${name}`, schema)
      assert.equal(given, await registry.register(`test.reins.${name}`, schema))
      assert.deepEqual(
        asked.filter((each) => !each.startsWith("GET")),
        [`PUT test.reins.${name}`, "POST versions", "POST versions"],
      )
      const config = await fetch(`${url}/config/test.reins.${name}`)
      assert.deepEqual(await config.json(), { compatibilityLevel: "FULL_TRANSITIVE" })
    } finally {
      slow.closeAllConnections()
      slow.close()
    }
  })

  it("says null for a schema that the registry does not have", async () => {
    assert.equal(await registry.schema(2_000_000_000), null)
  })
})

describe("a registry that is not there", () => {
  const server = createServer()
  before(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)))
  after(() => server.close())

  it("is an error that says what to do, when nobody listens and when somebody listens and says nothing", async () => {
    const { port } = server.address() as { port: number }
    for (const url of ["http://127.0.0.1:1", `http://127.0.0.1:${port}`]) {
      await assert.rejects(confluentRegistry({ url, timeoutMs: 300 }).schema(1), (error) => {
        assert.ok(error instanceof LogUnavailableError)
        assert.match(error.message, /SCHEMA_REGISTRY_URL/)
        return true
      })
    }
  })
})
