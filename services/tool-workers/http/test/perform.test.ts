import assert from "node:assert/strict"
import type { ServerResponse } from "node:http"
import { test } from "node:test"
import { gzipSync } from "node:zlib"
import type { EffectClass, ToolEventOf } from "@reins/events"
import { ToolAnswer, type ToolContext, ToolError } from "@reins/worker-kit"
import { bodyBytesMax, errorBodyBytesMax } from "../src/config.ts"
import { Connections } from "../src/exchange.ts"
import { httpTool } from "../src/perform.ts"
import { retryAfterOf, spreadRetryMs } from "../src/retry-after.ts"
import { closedUrl, type Server, serve, serveBytes } from "./server.ts"

interface Call {
  readonly url: string
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly effect?: EffectClass
  readonly input?: Record<string, unknown>
  readonly signal?: AbortSignal
  readonly attempt?: number
  readonly connections?: Connections
}

function run(call: Call): Promise<ToolAnswer> {
  const { url, method = "GET", headers, effect = "pure", input = {}, signal = new AbortController().signal, attempt = 1 } = call
  const dispatch: ToolEventOf<"tool-call.dispatched"> = {
    type: "tool-call.dispatched",
    eventId: "evt_1",
    sessionId: "sesn_1",
    tenant: "default",
    at: 0,
    by: "tool-router@test",
    causedBy: null,
    traceparent: null,
    toolUseId: "toolu_1",
    tool: "call_it",
    attempt,
    effect,
    idempotencyKey: "sesn_1/toolu_1",
    arguments: JSON.stringify(input),
    deadlineAt: 0,
    sessionOffset: 0,
    settings: JSON.stringify({ method, url, ...(headers === undefined ? {} : { headers }) }),
  }
  const context: ToolContext = {
    sessionId: "sesn_1",
    toolUseId: "toolu_1",
    attempt,
    idempotencyKey: "sesn_1/toolu_1",
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    signal,
    progress: () => undefined,
  }
  return httpTool(dispatch, call.connections ?? new Connections()).run(input, context) as Promise<ToolAnswer>
}

async function result(call: Call): Promise<{ text: unknown; isError: boolean }> {
  const { content, isError } = await run(call)
  return { text: JSON.parse(content), isError }
}

async function failure(call: Call): Promise<ToolError> {
  const outcome = await run(call).catch((error: unknown) => error)
  if (outcome instanceof ToolError) return outcome
  assert.ok(outcome instanceof ToolAnswer, String(outcome))
  return assert.fail(`It answered ${outcome.content}`)
}

/** A server that answers every request so. */
function answering(status: number, headers: Record<string, string>, body: string | Buffer = ""): Promise<Server> {
  return serve((_, response) => response.writeHead(status, headers).end(body))
}

const json = { "content-type": "application/json" }

test("what is sent over the wire is the request, the key and the trace, and nothing of the environment", async () => {
  await using server = await answering(200, json, "{}")
  await run({
    url: `${server.url}/orders/{id}/refund`,
    method: "POST",
    headers: { Authorization: "Bearer {token}" },
    effect: "keyed",
    input: { id: "1 7", cents: 5, token: "t" },
  })
  const [received] = server.received
  assert.equal(received?.method, "POST")
  assert.equal(received?.target, "/orders/1%207/refund")
  assert.equal(received?.body, '{"cents":5}')
  const { host, connection, ...headers } = received?.headers ?? {}
  assert.equal(`http://${host}`, server.url)
  assert.ok(connection)
  assert.deepEqual(headers, {
    accept: "application/json, text/*;q=0.9, */*;q=0.5",
    "accept-encoding": "identity",
    authorization: "Bearer t",
    "content-length": "11",
    "content-type": "application/json",
    "idempotency-key": "sesn_1/toolu_1",
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "user-agent": "reins",
  })
})

test("every method arrives as itself", async () => {
  await using server = await answering(200, json, "{}")
  const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
  for (const method of methods) await run({ url: server.url, method, input: { a: 1 } })
  assert.deepEqual(
    server.received.map(({ method, target, body }) => `${method} ${target} ${body}`.trim()),
    ["GET /?a=1", "HEAD /?a=1", 'POST / {"a":1}', 'PUT / {"a":1}', 'PATCH / {"a":1}', "DELETE /?a=1"],
  )
})

test("a JSON answer becomes canonical JSON, unless that would change a number", async () => {
  await using server = await serve((request, response) => {
    const bodies: Record<string, string> = {
      "/plain": ' {"b": [1, 2.50], "a": "é"} ',
      "/id": '{"z": 12345678901234567890, "a": 1}\n',
      "/huge": '{"z": 1e999}',
      "/exact": "[0.1, 1.0, 100000000000000000000, 1e3]",
      "/fraction": "[0.1, 0.12345678901234567890]",
      "/bom": '\ufeff{"a":1}',
    }
    response.writeHead(200, { "content-type": "application/problem+json; charset=utf-8" }).end(bodies[request.url ?? ""])
  })
  const at = async (path: string): Promise<unknown> => (await result({ url: server.url + path })).text
  assert.equal(await at("/plain"), '{"a":"é","b":[1,2.5]}')
  assert.equal(await at("/id"), '{"z": 12345678901234567890, "a": 1}')
  assert.equal(await at("/huge"), '{"z": 1e999}')
  assert.equal(await at("/exact"), "[0.1,1,100000000000000000000,1000]")
  assert.equal(await at("/fraction"), "[0.1, 0.12345678901234567890]")
  assert.equal(await at("/bom"), '{"a":1}')
})

test("a text comes as it is, in the encoding it names; binary comes as base64", async () => {
  const cases: readonly (readonly [string | null, Buffer, string])[] = [
    ["text/plain", Buffer.from(' {"not": "parsed"} \u001b[31m'), ' {"not": "parsed"} \u001b[31m'],
    ["text/html; charset=ISO-8859-1", Buffer.from("<p>h\xe4llo", "latin1"), "<p>hällo"],
    ['text/plain; format=flowed; charset="utf-8"', Buffer.from("日本"), "日本"],
    ["text/plain; charset=klingon", Buffer.from("a"), "a"],
    [null, Buffer.from("no type"), "no type"],
    [
      "text/plain",
      Buffer.from([0xff, 0xfe, 0x41]),
      '{"note":"The answer is binary.","contentType":"text/plain","bytes":3,"base64":"//5B"}',
    ],
    ["image/png", Buffer.from([0x89, 0x50]), '{"note":"The answer is binary.","contentType":"image/png","bytes":2,"base64":"iVA="}'],
    ["text/plain", Buffer.from("a\0b"), '{"note":"The answer is binary.","contentType":"text/plain","bytes":3,"base64":"YQBi"}'],
  ]
  for (const [type, body, text] of cases) {
    await using server = await answering(200, type === null ? {} : { "content-type": type }, body)
    assert.deepEqual(await result({ url: server.url }), { text, isError: false }, String(type))
  }
})

test("an answer without a body says so; a HEAD tells its headers", async () => {
  await using empty = await answering(204, {})
  assert.deepEqual(await result({ url: empty.url, method: "DELETE" }), { text: "HTTP 204 No Content, with an empty body.", isError: false })
  await using head = await answering(200, { "content-type": "text/csv", "content-length": "9999999", etag: '"7"' })
  assert.deepEqual(await result({ url: head.url, method: "HEAD" }), {
    text: '{"headers":{"content-length":"9999999","content-type":"text/csv","etag":"\\"7\\""},"status":200}',
    isError: false,
  })
})

test("JSON that is none is malformed_output, and shows what came", async () => {
  await using server = await answering(200, json, "<html>oops")
  const error = await failure({ url: server.url, effect: "unsafe", method: "POST" })
  assert.deepEqual([error.kind, error.effect, error.retryAfterMs, error.unknown], ["malformed_output", "done", null, false])
  assert.match(error.message, /HTTP 200 OK, but its JSON cannot be read: .*\n<html>oops/s)
  await using bytes = await answering(200, json, Buffer.from([0x22, 0xff, 0x22]))
  assert.match((await failure({ url: bytes.url })).message, /JSON is not UTF-8/)
  await using packed = await answering(200, { ...json, "content-encoding": "gzip" }, gzipSync("{}"))
  assert.match((await failure({ url: packed.url })).message, /encoded as gzip/)
})

test("an answer is read up to the cap and not a byte further, however long it goes on", async () => {
  const fits = "x".repeat(bodyBytesMax)
  await using exact = await answering(200, { "content-type": "text/plain" }, fits)
  assert.equal((await result({ url: exact.url })).text, fits)
  await using over = await answering(200, { "content-type": "text/plain" }, `${fits}x`)
  const error = await failure({ url: over.url, effect: "unsafe" })
  assert.deepEqual([error.kind, error.effect, error.retryAfterMs, error.unknown], ["output_too_large", "done", null, false])
  assert.match(error.message, new RegExp(`more than the ${bodyBytesMax} bytes that fit`))

  const closed = Promise.withResolvers<void>()
  await using endless = await serve((_, response) => {
    response.writeHead(200, { "content-type": "text/plain" })
    const more = (): void => {
      while (!response.destroyed && response.write("y".repeat(64 * 1024))) continue
      if (!response.destroyed) response.once("drain", more)
    }
    response.on("close", () => closed.resolve())
    more()
  })
  assert.equal((await failure({ url: endless.url })).kind, "output_too_large")
  await closed.promise
})

test("a status that says what is wrong is an error result with its body", async () => {
  for (const status of [400, 401, 403, 404, 405, 409, 410, 422, 500, 501, 505]) {
    await using server = await answering(status, { "content-type": "application/problem+json" }, '{"title":"no such order"}')
    for (const effect of ["pure", "unsafe"] as const) {
      const { text, isError } = await result({ url: server.url, effect })
      assert.equal(isError, true)
      assert.match(String(text), new RegExp(`^HTTP ${status} [A-Z].*\\n\\{"title":"no such order"\\}$`))
    }
  }
  await using bare = await answering(404, {})
  assert.deepEqual(await result({ url: bare.url }), { text: "HTTP 404 Not Found", isError: true })
  await using odd = await answering(499, {}, Buffer.from([0x61, 0xff]))
  assert.deepEqual(await result({ url: odd.url }), { text: "HTTP 499\na\ufffd", isError: true })
  await using long = await answering(400, {}, "z".repeat(errorBodyBytesMax + 1))
  assert.equal(
    (await result({ url: long.url })).text,
    `HTTP 400 Bad Request\n${"z".repeat(errorBodyBytesMax)}\n(cut after ${errorBodyBytesMax} bytes)`,
  )
})

test("a status that speaks of the moment is a failure to be tried again, not before Retry-After", async () => {
  for (const status of [408, 425, 429, 502, 503, 504]) {
    await using server = await answering(status, { "retry-after": "7" }, "later")
    const error = await failure({ url: server.url, effect: "keyed" })
    assert.equal(error.kind, status === 429 ? "rate_limited" : "unavailable")
    assert.equal(error.effect, "maybe", "what stands behind a gateway may have seen it: the router repeats no unsafe call for this")
    assert.equal(error.retryAfterMs, 7000)
    assert.equal(error.unknown, false)
    assert.match(error.message, new RegExp(`GET ${server.url} answered HTTP ${status} [A-Z].*\\.\\nlater$`))
  }
})

test("Retry-After may be a date or absent, and beyond reason the call is not tried again", async () => {
  const date = "Wed, 21 Oct 2026 07:28:00 GMT"
  await using dated = await answering(503, { date, "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT" })
  assert.equal((await failure({ url: dated.url })).retryAfterMs, 30_000)
  await using absent = await answering(503, {})
  const second = (await failure({ url: absent.url, attempt: 2 })).retryAfterMs ?? 0
  assert.ok(second >= 500 && second <= 1500, String(second))
  await using tomorrow = await answering(429, { "retry-after": "86400" })
  const error = await failure({ url: tomorrow.url })
  assert.equal(error.retryAfterMs, null)
  assert.match(error.message, /left alone for 86400 s/)
  await using huge = await answering(503, {}, "b".repeat(10 * 1024))
  assert.ok((await failure({ url: huge.url })).message.length < 8000)

  assert.equal(retryAfterOf(undefined, undefined, 0), null)
  for (const nonsense of ["", "soon", "-1", "1.5", "2026"])
    assert.equal(retryAfterOf(nonsense, undefined, 0) ?? null, nonsense === "2026" ? 2_026_000 : null)
  assert.equal(retryAfterOf("Wed, 21 Oct 2026 07:28:00 GMT", undefined, Date.parse(date) - 5000), 5000)
  assert.equal(retryAfterOf("Wed, 21 Oct 2026 07:28:00 GMT", undefined, Date.parse(date) + 5000), 0)
  assert.deepEqual([spreadRetryMs(1, 0), spreadRetryMs(1, 1), spreadRetryMs(3, 0.5), spreadRetryMs(60, 0.5)], [250, 750, 2000, 30_000])
})

test("a GET follows three redirects within its origin, with its headers, and no more", async () => {
  await using server = await serve((request, response) => {
    const step = Number(/\d+/.exec(request.url ?? "")?.[0] ?? 0)
    if (step === 0) response.writeHead(200, { "content-type": "text/plain" }).end("there")
    else response.writeHead([301, 302, 303, 307, 308][step] ?? 302, { location: step === 1 ? "/end" : `/step/${step - 1}` }).end()
  })
  assert.deepEqual(await result({ url: `${server.url}/step/{n}`, input: { n: 3 }, headers: { "x-key": "k" } }), {
    text: "there",
    isError: false,
  })
  assert.deepEqual(
    server.received.map(({ target, headers }) => [target, headers["x-key"], headers["idempotency-key"]]),
    ["/step/3", "/step/2", "/step/1", "/end"].map((target) => [target, "k", "sesn_1/toolu_1"]),
  )
  const four = await result({ url: `${server.url}/step/4` })
  assert.equal(four.isError, true)
  assert.match(String(four.text), /^HTTP \d+ .* to \/end: more than 3 redirects are not followed/)
})

test("a redirect to another origin, of another method or to nowhere is an error result", async () => {
  await using other = await answering(200, {}, "secret")
  const redirecting = async (location: string | null, method = "GET"): Promise<string> => {
    await using server = await answering(302, location === null ? {} : { location }, "moved")
    const { text, isError } = await result({ url: server.url, method })
    assert.equal(isError, true)
    assert.equal(server.received.length, 1)
    return String(text)
  }
  assert.match(await redirecting(`${other.url}/x`), /^HTTP 302 Found to http.*: a redirect to another origin is not followed\.\nmoved$/)
  assert.match(await redirecting("//evil.invalid/x"), /another origin/)
  assert.match(await redirecting("file:///etc/passwd"), /another origin/)
  for (const method of ["POST", "PUT", "PATCH", "DELETE"])
    assert.match(await redirecting("/done", method), new RegExp(`a redirect of a ${method} is not followed`))
  assert.match(await redirecting("http://["), /that is no URL/)
  assert.equal(await redirecting(null), "HTTP 302 Found\nmoved")
  assert.equal(other.received.length, 0)
  await using userinfo = await serve((request, response) =>
    response.writeHead(302, { location: `http://user:pass@${request.headers.host}/x` }).end(),
  )
  const error = await failure({ url: userinfo.url })
  assert.deepEqual([error.kind, error.effect], ["denied_by_policy", "none"])
  assert.equal(userinfo.received.length, 1)
})

test("a URL that may not be called is not called", async () => {
  for (const url of ["ftp://h.test/", "http://user:pass@h.test/"]) {
    const error = await failure({ url })
    assert.deepEqual([error.kind, error.effect, error.retryAfterMs], ["denied_by_policy", "none", null], url)
    assert.doesNotMatch(error.message, /pass@/)
  }
})

test("who cannot be reached has seen nothing: every class is tried again", async () => {
  const refused = await closedUrl()
  for (const effect of ["pure", "unsafe"] as const) {
    for (const url of [refused, `http://${"a".repeat(64)}.invalid/`]) {
      const error = await failure({ url, effect, method: "POST" })
      assert.deepEqual([error.kind, error.effect, error.unknown], ["unavailable", "none", false], url)
      assert.ok(error.retryAfterMs !== null && error.retryAfterMs > 0)
      assert.match(error.message, /cannot be reached: E[A-Z_]+\. Nothing was sent\./)
    }
  }
})

test("a host that speaks no TLS has seen nothing of the request either", async () => {
  await using server = await answering(200, {})
  const error = await failure({ url: server.url.replace("http:", "https:"), effect: "unsafe", method: "POST" })
  assert.deepEqual([error.effect, error.unknown], ["none", false])
  assert.equal(server.received.length, 0)
})

test("a connection that breaks after the request was sent leaves an unsafe call unknown and others to be tried again", async () => {
  for (const how of ["destroy", "resetAndDestroy", "end"] as const) {
    await using server = await serveBytes((socket) => socket[how]())
    for (const effect of ["unsafe", "queryable"] as const) {
      const error = await failure({ url: server.url, effect, method: "POST" })
      assert.deepEqual([error.unknown, error.effect, error.retryAfterMs], [true, "maybe", null], how)
      assert.match(error.message, /was sent, but no answer came: .*Nobody can say/)
    }
    for (const effect of ["pure", "idempotent", "keyed"] as const) {
      const error = await failure({ url: server.url, effect })
      assert.deepEqual([error.unknown, error.effect, error.kind], [false, "maybe", "unavailable"], how)
      assert.ok(error.retryAfterMs !== null)
    }
  }
})

test("an answer that breaks off, or is no HTTP, counts as no answer", async () => {
  await using half = await serveBytes((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"))
  const broke = await failure({ url: half.url, effect: "unsafe" })
  assert.equal(broke.unknown, true)
  assert.match(broke.message, /answered HTTP 200 OK, but its body broke off/)
  assert.equal((await failure({ url: half.url, effect: "pure" })).unknown, false)
  await using noise = await serveBytes((socket) => socket.end("220 smtp.example ESMTP\r\n"))
  assert.equal((await failure({ url: noise.url, effect: "unsafe" })).unknown, true)
  await using heads = await serveBytes((socket) => socket.end(`HTTP/1.1 200 OK\r\nx: ${"h".repeat(100_000)}\r\n\r\n`))
  assert.equal((await failure({ url: heads.url, effect: "unsafe" })).unknown, true)
})

test("a kept connection that the server has closed costs a repeatable call nothing; an unsafe one never uses it", async () => {
  const connections = new Connections()
  const ok = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok"
  const seen: number[] = []
  await using server = await serveBytes((socket, nth, connection) => {
    seen.push(connection)
    if (nth === 1) socket.write(ok)
    else socket.resetAndDestroy()
  })
  const call = (effect: EffectClass): Promise<unknown> => result({ url: server.url, effect, connections })
  await call("pure")
  // The connection goes back to the kept ones in a later turn than the answer.
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(await call("pure"), { text: "ok", isError: false })
  assert.deepEqual(seen, [1, 1, 2])
  await call("unsafe")
  await call("unsafe")
  assert.deepEqual(seen, [1, 1, 2, 3, 4])
})

test("a call stops when it is told to, before the answer and in the middle of it", async () => {
  const closed: Promise<unknown>[] = []
  const arrived = Promise.withResolvers<ServerResponse>()
  await using silent = await serve((_, response) => {
    closed.push(new Promise((resolve) => response.on("close", resolve)))
    arrived.resolve(response)
  })
  const stop = new AbortController()
  const waiting = run({ url: silent.url, effect: "unsafe", signal: stop.signal })
  await arrived.promise
  const reason = new Error("no longer wanted")
  stop.abort(reason)
  await assert.rejects(waiting, reason)

  const begun = Promise.withResolvers<void>()
  await using slow = await serve((_, response) => {
    closed.push(new Promise((resolve) => response.on("close", resolve)))
    response.writeHead(200, { "content-length": "10" })
    response.write("half", () => begun.resolve())
  })
  const second = new AbortController()
  const reading = run({ url: slow.url, effect: "unsafe", signal: second.signal })
  await begun.promise
  second.abort(reason)
  await assert.rejects(reading, reason)
  await Promise.all(closed)
  await assert.rejects(run({ url: slow.url, signal: second.signal }), reason)
  assert.equal(slow.received.length, 1)
})

test("the deadline of the call is the deadline of the request", async () => {
  await using silent = await serve(() => undefined)
  await assert.rejects(run({ url: silent.url, signal: AbortSignal.timeout(50) }), { name: "TimeoutError" })
})

test("no message holds what may be the agent's secret", async () => {
  const headers = { authorization: "Bearer s3cret" }
  const path = "/s3cret?key=s3cret"
  const messages: string[] = []
  for (const status of [404, 503]) {
    await using server = await answering(status, {})
    if (status === 404) messages.push(String((await result({ url: server.url + path, headers })).text))
    else messages.push((await failure({ url: server.url + path, headers })).message)
  }
  messages.push((await failure({ url: (await closedUrl()) + path, headers })).message)
  await using broken = await serveBytes((socket) => socket.destroy())
  messages.push((await failure({ url: broken.url + path, headers, effect: "unsafe" })).message)
  assert.equal(messages.length, 4)
  for (const message of messages) assert.doesNotMatch(message, /s3cret/)
})
