import assert from "node:assert/strict"
import { connect, type Socket } from "node:net"
import { describe, it, type TestContext } from "node:test"
import { defaultBodyLimits } from "../src/http/body.ts"
import { type ErrorBody, type Opened, stage } from "./stage.ts"

// What a client may send that is none of the API's business. Over sockets, as most of it is nothing that an HTTP client would send.

const agent = '{"name":"A","model":"m"}'

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: ErrorBody
}

/** Writes these bytes on a connection of its own, and reads until the gateway closes it or has answered in full. */
async function raw(opened: Opened, bytes: string | Uint8Array, then?: (socket: Socket) => Promise<void>): Promise<Answer> {
  const socket = connect(opened.port, "127.0.0.1")
  socket.setMaxListeners(0)
  await happens(socket, ["connect"])
  const chunks: Buffer[] = []
  let ended = false
  socket.on("data", (chunk: Buffer) => chunks.push(chunk))
  socket.on("error", () => undefined)
  socket.once("close", () => {
    ended = true
  })
  socket.write(bytes)
  await then?.(socket)
  for (;;) {
    const answer = parsed(Buffer.concat(chunks).toString("utf8"))
    if (answer !== null) {
      socket.destroy()
      return answer
    }
    assert.ok(!ended, `The connection closed without an answer: ${JSON.stringify(Buffer.concat(chunks).toString("utf8").slice(0, 300))}`)
    await happens(socket, ["data", "close"])
  }
}

async function happens(socket: Socket, events: readonly string[]): Promise<void> {
  await new Promise<void>((resolve) => {
    for (const event of events) socket.once(event, () => resolve())
  })
}

function parsed(text: string): Answer | null {
  const end = text.indexOf("\r\n\r\n")
  if (end === -1) return null
  const [first, ...lines] = text.slice(0, end).split("\r\n")
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
  )
  const body = text.slice(end + 4)
  if (Buffer.byteLength(body) < Number(headers["content-length"])) return null
  return { status: Number(first?.split(" ")[1]), headers, body: JSON.parse(body) as ErrorBody }
}

function head(fields: Readonly<Record<string, string | number>>, line = "POST /v1/agents HTTP/1.1"): string {
  const lines = Object.entries({ host: "localhost", "content-type": "application/json", ...fields }).map(
    ([name, value]) => `${name}: ${value}`,
  )
  return `${[line, ...lines].join("\r\n")}\r\n\r\n`
}

function post(body: string | Uint8Array, fields: Readonly<Record<string, string | number>> = {}): Buffer {
  const bytes = Buffer.from(body as string)
  return Buffer.concat([Buffer.from(head({ "content-length": bytes.length, ...fields })), bytes])
}

function holds(answer: Answer, status: number, type: string, says: RegExp): void {
  assert.equal(answer.status, status, JSON.stringify(answer.body))
  assert.equal(answer.body.type, "error")
  assert.equal(answer.body.error.type, type)
  assert.match(answer.body.error.message, says)
  assert.match(answer.body.request_id, /^req_[0-9a-f]{24}$/)
  assert.equal(answer.headers["request-id"], answer.body.request_id)
  assert.match(answer.headers["content-type"] ?? "", /^application\/json/)
}

async function still(opened: Opened): Promise<void> {
  assert.deepEqual((await opened.client().beta.agents.list()).data, [])
}

describe("bad input", () => {
  it("B5: no JSON, and JSON that reads differently elsewhere, is 400 with a pointer", async (t) => {
    const opened = await (await stage(t)).open()
    const wrong: readonly (readonly [string, string | Uint8Array, RegExp])[] = [
      ["nothing of it", "name=A", /^body: not JSON/],
      ["half of it", '{"name":"A"', /^body: not JSON/],
      ["more than it", `${agent}x`, /^body: not JSON/],
      ["NaN", '{"name":"A","model":NaN}', /^body: not JSON/],
      ["a list", "[]", /^body: must be a JSON object/],
      ["null", "null", /^body: must be a JSON object/],
      ["a byte order mark", `\u{feff}${agent}`, /^body: begins with a byte order mark/],
      ["Latin-1", Buffer.from('{"name":"\u00e9"}', "latin1"), /^body: not UTF-8/],
      ["a name twice", '{"name":"A","model":"m","name":"B"}', /^name: the field "name" stands twice/],
      ["a name twice, once escaped", '{"metadata":{"a":"1","\\u0061":"2"}}', /^metadata\/a: .*stands twice/],
      ["__proto__", '{"name":"A","model":"m","metadata":{"__proto__":"x"}}', /^metadata\/__proto__: /],
      ["__proto__, escaped", '{"name":"A","model":"m","metadata":{"\\u005f_proto__":"x"}}', /^metadata\/__proto__: /],
      ["constructor", '{"name":"A","model":"m","constructor":{"prototype":{"polluted":1}}}', /^constructor: /],
      [
        "half of a surrogate pair",
        '{"name":"A","model":"m","tools":[1,{"name":"\\ud83d"}]}',
        /^tools\/1\/name: holds half of a surrogate pair/,
      ],
      ["a number without end", '{"name":"A","model":"m","version":1e999}', /^version: 1e999 is larger/],
    ]
    for (const [what, body, says] of wrong)
      await t.test(what, async () => holds(await raw(opened, post(body)), 400, "invalid_request_error", says))
    assert.equal(({} as Record<string, unknown>)["polluted"], undefined)
    await still(opened)
    // What only looks alike is fine.
    const fine = await raw(opened, post('{"name":"\\ud83e\\udd8a","model":"m","metadata":{"name":"A"},"description":"__proto__ \\" [{,:"}'))
    assert.equal(fine.status, 200, JSON.stringify(fine.body))
  })

  it("B5: another content type, or a body that is packed, is 400", async (t) => {
    const opened = await (await stage(t)).open()
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", ""])
      holds(
        await raw(opened, post(agent, { "content-type": type })),
        400,
        "invalid_request_error",
        /^content-type: must be application\/json/,
      )
    holds(await raw(opened, post(agent, { "content-encoding": "gzip" })), 400, "invalid_request_error", /^content-encoding: /)
    await still(opened)
    for (const type of ["application/json", "application/json; charset=utf-8", "Application/JSON"])
      assert.equal((await raw(opened, post(agent, { "content-type": type }))).status, 200)
  })

  it("B6: more than it may have is 413, whether it is announced or not, and the connection is closed", async (t) => {
    const world = await stage(t)
    const max = 1024 * 1024
    const opened = await world.open({ limits: { body: { ...defaultBodyLimits, bytesMax: max, lingerMs: 100 } } })
    // Only announced: nothing of it ever comes.
    const announced = await raw(opened, head({ "content-length": 50_000_000_000 }))
    holds(announced, 413, "request_too_large", /1048576 bytes/)
    assert.equal(announced.headers["connection"], "close")
    // Without an end, and without saying how long.
    const piece = Buffer.concat([Buffer.from("10000\r\n"), Buffer.alloc(0x10000, 0x20), Buffer.from("\r\n")])
    const endless = await raw(opened, head({ "transfer-encoding": "chunked" }), async (socket) => {
      while (!socket.destroyed && socket.bytesRead === 0) if (!socket.write(piece)) await happens(socket, ["drain", "data", "close"])
    })
    holds(endless, 413, "request_too_large", /1048576 bytes/)
    assert.equal(endless.headers["connection"], "close")
    await still(opened)
    // A client that sends all of it before it reads can read its answer too.
    const patient = await world.open({ limits: { body: { ...defaultBodyLimits, bytesMax: max, lingerMs: 60_000 } } })
    const response = await fetch(`${patient.url}/v1/agents`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: `{"name":"${"x".repeat(8 * max)}"}`,
    })
    assert.equal(response.status, 413)
    assert.equal(((await response.json()) as ErrorBody).error.type, "request_too_large")
    assert.equal(defaultBodyLimits.bytesMax, 32 * 1024 * 1024)
  })

  it("B6: a body shorter than announced ends with its connection, and leaves nothing behind", async (t) => {
    const opened = await (await stage(t)).open()
    const socket = connect(opened.port, "127.0.0.1")
    socket.on("error", () => undefined)
    socket.write(post(agent, { "content-length": 1000 }))
    await new Promise((resolve) => setTimeout(resolve, 20))
    socket.destroy()
    await still(opened)
  })

  it("B7: depth, length and size are refused before anything is built from them", async (t) => {
    const opened = await (await stage(t)).open()
    const nested = `{"name":"A","model":"m","tools":${"[".repeat(10_000)}${"]".repeat(10_000)}}`
    holds(await raw(opened, post(nested)), 400, "invalid_request_error", /^body: nests deeper than 100/)
    holds(await raw(opened, post("[".repeat(8_000_000))), 400, "invalid_request_error", /^body: nests deeper than 100/)
    const million = `{"name":"A","model":"m","tools":[${"0,".repeat(1_000_000)}0]}`
    // Refused before it is parsed: a million values and as many issues about them would be hundreds of megabytes.
    holds(await raw(opened, post(million)), 400, "invalid_request_error", /^body: holds more than 200000 values/)
    holds(await raw(opened, post(`{"name":"${"x".repeat(10_000_000)}","model":"m"}`)), 400, "invalid_request_error", /^name: /)
    const long = await fetch(`${opened.url}/v1/agents/${"x".repeat(10_000)}`)
    assert.equal(long.status, 404)
    await still(opened)
  })

  it("B7: a head that is too long is 431", async (t) => {
    const opened = await (await stage(t)).open()
    const answer = await raw(opened, head({ "x-long": "x".repeat(40_000) }))
    holds(answer, 431, "request_too_large", /head of a request/)
    assert.equal(answer.headers["connection"], "close")
  })

  it("what is no HTTP gets an answer in the same form", async (t) => {
    const opened = await (await stage(t)).open()
    holds(await raw(opened, "HELO gateway\r\n\r\n"), 400, "invalid_request_error", /no HTTP request/)
    holds(await raw(opened, head({ host: "a b" }, "GET /v1/agents HTTP/1.1")), 400, "invalid_request_error", /cannot be read/)
    holds(await raw(opened, post(agent, { "transfer-encoding": "chunked" })), 400, "invalid_request_error", /no HTTP request/)
    await still(opened)
  })

  it("what is not there is 404, and no id of another kind finds anything", async (t) => {
    const opened = await (await stage(t)).open()
    for (const [line, says] of [
      ["GET /v1/nothing HTTP/1.1", /There is no GET \/v1\/nothing here/],
      ["PUT /v1/agents HTTP/1.1", /There is no PUT \/v1\/agents here/],
      ["GET / HTTP/1.1", /There is no GET \/ here/],
      ["GET /v1/agents/..%2f..%2fetc HTTP/1.1", /agent not found/],
      ["GET /v1/agents/__proto__ HTTP/1.1", /agent not found/],
      ["GET /v1/agents/constructor/versions HTTP/1.1", /agent not found/],
      ["GET /v1/environments/toString HTTP/1.1", /environment not found/],
    ] as const)
      holds(await raw(opened, head({}, line)), 404, "not_found_error", says)
  })

  it("B8, B9: unknown fields are 400; unknown queries, betas and versions are not looked at", async (t) => {
    const opened = await (await stage(t)).open()
    holds(await raw(opened, post('{"name":"A","model":"m","colour":"red"}')), 400, "invalid_request_error", /Unrecognized key: "colour"/)
    for (const version of ["2026-10-21", "2023-06-01", "1999-01-01"]) {
      const response = await fetch(`${opened.url}/v1/agents?beta=true&foo[]=1&foo[]=2`, {
        headers: { "anthropic-version": version, "anthropic-beta": "managed-agents-2026-04-01,never-heard-of-2030-01-01" },
      })
      assert.equal(response.status, 200)
      assert.match(response.headers.get("request-id") ?? "", /^req_/)
    }
  })

  it("B17: a limit that makes no sense is 400, a large one is the largest, a cursor is of its list and unchanged", async (t) => {
    const opened = await (await stage(t)).open()
    const client = opened.client()
    for (let n = 0; n < 3; n++) await client.beta.agents.create({ name: String(n), model: "m" })
    const get = async (path: string): Promise<{ status: number; body: ErrorBody & { data: unknown[]; next_page: string | null } }> => {
      const response = await fetch(`${opened.url}${path}`)
      return { status: response.status, body: (await response.json()) as never }
    }
    for (const limit of ["0", "-1", "1.5", "x", "", "1e999", "9".repeat(40)]) {
      const { status, body } = await get(`/v1/agents?limit=${limit}`)
      assert.equal(status, 400, limit)
      assert.match(body.error.message, /^limit: /)
    }
    assert.equal((await get("/v1/agents?limit=1000000000")).body.data.length, 3)
    const page = (await get("/v1/agents?limit=2")).body.next_page as string
    assert.equal((await get(`/v1/agents?limit=2&page=${page}`)).body.data.length, 1)
    const tampered = Buffer.from(page, "base64url").toString("utf8").replace('"at":', '"at":"x",')
    for (const wrong of [
      page.slice(0, -3),
      `${page}xxxx`,
      "nonsense",
      Buffer.from("null").toString("base64url"),
      Buffer.from("{}").toString("base64url"),
      Buffer.from(tampered.replace('"x",', '"x","b":')).toString("base64url"),
    ]) {
      const { status, body } = await get(`/v1/agents?page=${wrong}`)
      assert.equal(status, 400, wrong)
      assert.match(body.error.message, /^page: this is no cursor of this list/)
    }
    for (const other of ["/v1/environments", "/v1/sessions"]) assert.equal((await get(`${other}?page=${page}`)).status, 400)
    for (const time of ["yesterday", "2026-13-01"])
      assert.match((await get(`/v1/agents?created_at[gte]=${time}`)).body.error.message, /^created_at\[gte\]: /)
  })

  it("a log that does not answer is 503 with a time to try again, and never 200", async (t) => {
    const opened = await openSlow(t)
    opened.log.pause()
    const response = await fetch(`${opened.url}/v1/agents`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: agent,
    })
    assert.equal(response.status, 503)
    assert.equal(response.headers.get("retry-after"), "1")
    const { error } = (await response.json()) as ErrorBody
    assert.equal(error.type, "overloaded_error")
    opened.log.resume()
  })

  it("more requests than a credential may make are 429 with a time to wait; another credential is served", async (t) => {
    const opened = await (await stage(t)).open({ limits: { rate: { perSecond: 0.001, burst: 2 } } })
    const ask = (key: string): Promise<Response> => fetch(`${opened.url}/v1/agents`, { headers: { "x-api-key": key } })
    assert.deepEqual([(await ask("a")).status, (await ask("a")).status], [200, 200])
    const refusedToo = await ask("a")
    assert.equal(refusedToo.status, 429)
    assert.ok(Number(refusedToo.headers.get("retry-after")) > 0)
    assert.equal(((await refusedToo.json()) as ErrorBody).error.type, "rate_limit_error")
    assert.equal((await ask("b")).status, 200)
  })

  it("every request is measured under the template of its route", async (t) => {
    const opened = await (await stage(t)).open()
    const { id } = await opened.client().beta.agents.create({ name: "A", model: "m" })
    await opened.client().beta.agents.retrieve(id)
    await fetch(`${opened.url}/v1/agents/nope`)
    await fetch(`${opened.url}/v1/nothing`)
    const text = await opened.metrics.registry.metrics()
    assert.match(text, /reins_http_request_duration_seconds_count\{route="\/v1\/agents\/:agent",method="GET",code="200"\} 1/)
    assert.match(text, /reins_http_request_duration_seconds_count\{route="\/v1\/agents\/:agent",method="GET",code="404"\} 1/)
    assert.match(text, /reins_http_request_duration_seconds_count\{route="unmatched",method="GET",code="404"\} 1/)
    assert.ok(!text.includes(id))
  })
})

async function openSlow(t: TestContext): Promise<Opened> {
  return await (await stage(t)).open({ limits: { answerTimeoutMs: 200 } })
}
