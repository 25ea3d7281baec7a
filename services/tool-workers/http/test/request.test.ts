import assert from "node:assert/strict"
import { test } from "node:test"
import { type ToolContext, ToolError } from "@reins/worker-kit"
import { urlFault } from "../src/may-call.ts"
import { requestOf } from "../src/request.ts"

const context: ToolContext = {
  sessionId: "sesn_1",
  toolUseId: "toolu_1",
  attempt: 1,
  idempotencyKey: "sesn_1/toolu_1",
  traceparent: null,
  signal: new AbortController().signal,
  progress: () => undefined,
}

interface Given {
  readonly url: string
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly input?: unknown
  readonly context?: Partial<ToolContext>
}

function request({ url, method, headers, input = {}, context: other = {} }: Given): ReturnType<typeof requestOf> {
  return requestOf(JSON.stringify({ url, ...(method ? { method } : {}), ...(headers ? { headers } : {}) }), input, { ...context, ...other })
}

const target = (given: Given): string => request(given).url.href

function refuses(given: Given, message: RegExp): void {
  assert.throws(
    () => request(given),
    (error) => {
      assert.ok(error instanceof ToolError, String(error))
      assert.deepEqual([error.kind, error.effect, error.retryAfterMs], ["validation", "none", null])
      assert.match(error.message, message)
      return true
    },
    JSON.stringify(given),
  )
}

test("an argument takes its place in the path, as one part of it whatever it holds", () => {
  const at = "http://h.test/orders/{id}/items"
  assert.equal(target({ url: at, input: { id: "17" } }), "http://h.test/orders/17/items")
  assert.equal(target({ url: at, input: { id: "a/b?c#d%20 é" } }), "http://h.test/orders/a%2Fb%3Fc%23d%2520%20%C3%A9/items")
  assert.equal(target({ url: at, input: { id: 17 } }), "http://h.test/orders/17/items")
  assert.equal(target({ url: at, input: { id: false } }), "http://h.test/orders/false/items")
  assert.equal(target({ url: "http://h.test/{a}-{b}.json", input: { a: 1, b: "x" } }), "http://h.test/1-x.json")
  assert.equal(target({ url: "http://h.test/{a}/{a}", input: { a: "$&" } }), "http://h.test/%24%26/%24%26")
  assert.equal(target({ url: "http://h.test/f/{name}", input: { name: "..txt" } }), "http://h.test/f/..txt")
  assert.equal(target({ url: "http://h.test/@{user}", input: { user: "@evil.test" } }), "http://h.test/@%40evil.test")
})

test("an argument never leads elsewhere in the path", () => {
  for (const id of [".", "..", "../admin", "a/../b", "..\\admin", "%2e%2e", "%2E.", "..%2fadmin", "x/.", "./x"])
    refuses({ url: "http://h.test/orders/{id}", input: { id } }, /would lead elsewhere/)
  refuses({ url: "http://h.test/orders/.{id}", input: { id: "." } }, /would lead elsewhere/)
  refuses({ url: "http://h.test/orders/{a}{b}", input: { a: ".", b: "." } }, /would lead elsewhere/)
  refuses({ url: "http://h.test/orders/{id}", input: { id: "" } }, /id is empty/)
})

test("an argument that is missing or has no text is refused", () => {
  refuses({ url: "http://h.test/{id}" }, /argument id is missing/)
  refuses({ url: "http://h.test/?q={id}" }, /argument id is missing: it has a place in the query/)
  refuses({ url: "http://h.test/{constructor}" }, /argument constructor is missing/)
  for (const id of [null, {}, ["a"]]) refuses({ url: "http://h.test/{id}", input: { id } }, /must be a string, a number or a boolean/)
  refuses({ url: "http://h.test/{id}", input: { id: "\ud800" } }, /lone surrogate/)
  for (const input of [[], null, "x", 7]) refuses({ url: "http://h.test/", input }, /no JSON object/)
})

test("no argument reaches scheme, user, host or port", () => {
  for (const url of ["{s}://h.test/", "http://{h}/", "http://{h}.test/x", "http://h.test:{p}/", "http://{u}@h.test/", "{url}"])
    refuses({ url, input: { s: "http", h: "evil.test", p: 1, u: "u", url: "http://evil.test" } }, /cannot be used/)
})

test("a URL that a parser would read differently than a person is refused", () => {
  for (const url of [
    "http:\\\\h.test/",
    "http://h.test\\@evil.test/",
    "http://h.te\nst/",
    " http://h.test/",
    "http://h.test/#x",
    "/orders",
    "h.test",
    "http://h.test/{a",
    "http://h.test/a}",
  ])
    refuses({ url, input: { a: 1 } }, /cannot be used/)
  refuses({ url: "http://h.test/{a}", input: { a: "x".repeat(20_000) } }, /at most 16000/)
})

test("what may be called is decided on the finished URL", () => {
  assert.equal(urlFault(new URL("https://h.test/")), null)
  assert.match(urlFault(new URL("ftp://h.test/")) ?? "", /only http and https/)
  assert.match(urlFault(new URL("file:///etc/passwd")) ?? "", /only http and https/)
  assert.match(urlFault(new URL("http://u:p@h.test/")) ?? "", /no user and no password/)
})

test("the other arguments become the query of GET, HEAD and DELETE", () => {
  const input = { id: "1", q: "a b&c", n: 2, yes: true, none: null, tags: ["x", "y", null], where: { b: 1, a: [2] }, "sort by": "z" }
  const query = "q=a%20b%26c&n=2&yes=true&tags=x&tags=y&where=%7B%22a%22%3A%5B2%5D%2C%22b%22%3A1%7D&sort%20by=z"
  for (const method of ["GET", "HEAD", "DELETE"]) {
    const made = request({ url: "http://h.test/{id}", method, input })
    assert.equal(made.url.href, `http://h.test/1?${query}`)
    assert.equal(made.body, null)
    assert.equal(made.headers["content-type"], undefined)
  }
  assert.equal(target({ url: "http://h.test/?v=2", input: { a: 1 } }), "http://h.test/?v=2&a=1")
  assert.equal(target({ url: "http://h.test/?", input: { a: 1 } }), "http://h.test/?a=1")
  assert.equal(target({ url: "http://h.test", input: { a: 1 } }), "http://h.test/?a=1")
  assert.equal(target({ url: "http://h.test/s?q={q}&v=2", input: { q: "a&v=3" } }), "http://h.test/s?q=a%26v%3D3&v=2")
  assert.equal(target({ url: "http://h.test/s?q={q}", input: { q: "" } }), "http://h.test/s?q=")
})

test("the other arguments become the JSON body of POST, PUT and PATCH", () => {
  for (const method of ["POST", "PUT", "PATCH"]) {
    const made = request({ url: "http://h.test/{id}", method, input: { id: "1", cents: 5, note: null, to: { b: 1, a: 2 } } })
    assert.equal(made.url.href, "http://h.test/1")
    assert.equal(made.body, '{"cents":5,"note":null,"to":{"a":2,"b":1}}')
    assert.equal(made.headers["content-type"], "application/json")
  }
  assert.equal(request({ url: "http://h.test/{id}", method: "POST", input: { id: "1" } }).body, "{}")
  const own = request({ url: "http://h.test/", method: "POST", headers: { "Content-Type": "application/vnd.x+json" } })
  assert.equal(own.headers["content-type"], "application/vnd.x+json")
  assert.equal(request({ url: "http://h.test/", method: "POST", input: JSON.parse('{"__proto__":{"a":1}}') }).body, '{"__proto__":{"a":1}}')
})

test("headers take arguments, and refuse what no header may hold", () => {
  const made = request({
    url: "http://h.test/",
    headers: { "X-Tenant": "t-{tenant}", authorization: "Bearer s3cret", "x-json": '{"a": 1}' },
    input: { tenant: "acme" },
  })
  assert.equal(made.headers["x-tenant"], "t-acme")
  assert.equal(made.headers["authorization"], "Bearer s3cret")
  assert.equal(made.headers["x-json"], '{"a": 1}')
  assert.equal(made.url.search, "", "an argument that a header took is not sent again in the query")
  for (const tenant of ["a\r\nx-admin: 1", "a\nb", "a\rb", "a\0b", "日本"])
    refuses({ url: "http://h.test/", headers: { "X-Tenant": "s3cret {tenant}" }, input: { tenant } }, /^(?!.*s3cret).*header X-Tenant/)
  refuses(
    { url: "http://h.test/", headers: { "x-tenant": "{tenant}" } },
    /argument tenant is missing: it has a place in the header x-tenant/,
  )
  for (const name of ["Host", "content-length", "Transfer-Encoding", "CONNECTION", "Upgrade", "TE", "Expect"])
    refuses({ url: "http://h.test/", headers: { [name]: "x" } }, /belongs to the connection/)
  for (const name of ["Idempotency-Key", "traceparent"]) refuses({ url: "http://h.test/", headers: { [name]: "x" } }, /Reins writes it/)
})

test("the idempotency key is always there, the trace where it is well formed", () => {
  assert.equal(request({ url: "http://h.test/" }).headers["idempotency-key"], "sesn_1/toolu_1")
  const key = (idempotencyKey: string): string | undefined =>
    request({ url: "http://h.test/", context: { idempotencyKey } }).headers["idempotency-key"]
  assert.equal(key("é\n日/t"), "%C3%A9%0A%E6%97%A5/t")
  assert.notEqual(key("a b/t"), key("a%20b/t"))
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
  assert.equal(request({ url: "http://h.test/", context: { traceparent } }).headers["traceparent"], traceparent)
  assert.equal(request({ url: "http://h.test/", context: { traceparent: "nonsense\r\n" } }).headers["traceparent"], undefined)
  assert.equal(request({ url: "http://h.test/" }).headers["traceparent"], undefined)
})

test("settings that are none are refused in words", () => {
  assert.throws(() => requestOf(null, {}, context), { name: "Error", message: /http settings for this tool cannot be used/ })
  assert.throws(() => requestOf('{"url":"http://h.test/","method":"TRACE"}', {}, context), { message: /method/ })
})
