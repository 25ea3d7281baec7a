import assert from "node:assert/strict"
import process from "node:process"
import { after, afterEach, before, describe, it } from "node:test"
import { sha256Hex } from "@reins/session"
import type { Browser, BrowserContext, BrowserContextOptions, Page } from "playwright-core"
import { browserPath, openBrowser } from "./browser.ts"
import { ConsoleWorld, hostileText } from "./console-world.ts"
import { patienceMs, until } from "./harness.ts"
import { ground, harm, hasFocus, measured, stored, tellViolations } from "./in-page.ts"

// The console in a real browser against the real gateway. Whatever a page complains about, its policy above all, fails the test.

const chromium = browserPath()
const required = process.env["REINS_REQUIRE_BROWSER"] === "1"
if (chromium === null) {
  const says =
    "No Chromium was found, so the console is not tested in a browser. Install it (Debian: chromium), or name one: REINS_CHROMIUM."
  if (required) throw new Error(says)
  process.stdout.write(`\n${"!".repeat(80)}\n${says}\n${"!".repeat(80)}\n`)
}
const skip = chromium === null ? "no Chromium was found" : false

const slow = "Tell a story. [[say 40 parts 40 ms apart]]"
/** 10 s of telling: longer than several of the list's polls, so that a loaded machine sees it run too. */
const slower = "Tell a story. [[say 200 parts 50 ms apart]]"
const refund = `Refund it. [[call refund {"id":"17","cents":4200}]]`
const refundArguments = '{"cents":4200,"id":"17"}'

describe("the console", { skip, timeout: 240_000 }, () => {
  let world: ConsoleWorld
  let browser: Browser
  const contexts: BrowserContext[] = []
  let complaints: string[] = []

  before(async () => {
    world = await ConsoleWorld.start()
    browser = await openBrowser(chromium ?? "")
    // It is built once, whoever comes first.
    await until(async () => (await fetch(`${world.url}/`)).status === 200, "the console is built")
  })
  afterEach(async () => {
    for (const context of contexts.splice(0)) await context.close()
    assert.deepEqual(complaints.splice(0), [])
    assert.deepEqual(world.failures, [])
  })
  after(async () => {
    await browser.close()
    await world.stop()
  })

  /** A new browser, as another person's. */
  async function visit(path: string, options: BrowserContextOptions & { readonly url?: string } = {}): Promise<Page> {
    const { url = world.url, ...given } = options
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...given })
    contexts.push(context)
    context.setDefaultTimeout(patienceMs)
    const page = await context.newPage()
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text())
    })
    page.on("pageerror", (error) => complaints.push(String(error)))
    await page.addInitScript(tellViolations)
    await page.goto(`${url}/${path}`)
    return page
  }
  async function open(sessionId: string, options: BrowserContextOptions = {}): Promise<Page> {
    const page = await visit(`#/sessions/${sessionId}`, options)
    await page.locator(".connection-live").waitFor()
    return page
  }
  const eventsOf = async (sessionId: string, type: string): Promise<readonly Readonly<Record<string, unknown>>[]> => {
    const { data } = await world.client().beta.sessions.events.list(sessionId, { types: [type as "agent.message"] })
    return data as unknown as readonly Readonly<Record<string, unknown>>[]
  }
  const idled = (sessionId: string, times = 1): Promise<unknown> =>
    until(async () => (await eventsOf(sessionId, "session.status_idle")).length >= times, `${sessionId} is idle`)

  it("comes with a policy that lets its own code run and no other, and leaves the API alone", async () => {
    const page = await fetch(`${world.url}/`)
    const html = await page.text()
    const [script] = /\/assets\/[^"]+\.js/.exec(html) ?? []
    assert.ok(script !== undefined)
    for (const response of [page, await fetch(`${world.url}${script}`), await fetch(`${world.url}/assets/nothing.js`)]) {
      assert.equal(
        response.headers.get("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      )
      assert.equal(response.headers.get("x-content-type-options"), "nosniff")
      assert.equal(response.headers.get("referrer-policy"), "no-referrer")
      assert.equal(response.headers.get("set-cookie"), null)
    }
    assert.match((await fetch(`${world.url}${script}`)).headers.get("cache-control") ?? "", /immutable/)
    assert.equal((await fetch(`${world.url}/assets/nothing.js`)).status, 404)
    assert.equal((await fetch(`${world.url}/assets/../index.html/%2e%2e/x`)).status, 404)
    assert.equal((await fetch(`${world.url}/`, { method: "POST" })).status, 404)
    assert.equal((await fetch(`${world.url}/v1/sessions`)).status, 200)
    assert.equal((await fetch(`${world.url}/livez`)).status, 200)
  })

  it("lists sessions live: one that begins appears, and its status follows without a reload", async () => {
    const page = await visit("")
    await page.locator("h1", { hasText: "Sessions" }).waitFor()
    const id = await world.session(slower, { title: "A story that takes its time" })
    const row = page.locator(".row", { hasText: id })
    await row.locator(".state", { hasText: "Running" }).waitFor()
    assert.match(await row.innerText(), /A story that takes its time[\s\S]*Shopkeeper[\s\S]*claude-sonnet-5-5/)
    await row.locator(".state", { hasText: "Idle" }).waitFor()
    assert.doesNotMatch(await row.locator(".tokens").innerText(), /^0/)
  })

  it("filters and searches, and keeps both in the address", async () => {
    const waits = await world.session(refund, { title: "Zebra refund" })
    const other = await world.session("hello", { title: "Zebra greeting" })
    await Promise.all([idled(waits), idled(other)])
    const page = await visit("")
    const ids = (): Promise<readonly string[]> => page.locator(".row code").allInnerTexts()
    await page.getByRole("searchbox").fill("zebra")
    await until(async () => (await ids()).length === 2, "two zebras")
    await page.getByRole("radio", { name: "Waiting" }).check()
    await until(async () => (await ids()).join() === waits, "the one that waits")
    assert.match(await page.locator(".row").innerText(), /approval of refund/)
    assert.equal(new URL(page.url()).hash, "#/sessions?q=zebra&state=waiting")
    await page.reload()
    await until(async () => (await ids()).join() === waits, "the same after a reload")
    await page.getByRole("searchbox").fill("no such thing")
    await page.getByText("No session fits.").waitFor()
    await page.getByRole("searchbox").fill(other)
    await page.getByRole("radio", { name: "All" }).check()
    await until(async () => (await ids()).join() === other, "found by its id")
  })

  it("shows a session as it grows: the answer while it is written, then the event in its place", async () => {
    const id = await world.session("hello")
    await idled(id)
    const page = await open(id)
    // Who comes in the middle of an answer is shown no half of it, so the page is there first.
    await world.client().beta.sessions.events.send(id, { events: [{ type: "user.message", content: [{ type: "text", text: slow }] }] })
    const preview = page.locator(".preview")
    await preview.waitFor()
    const lengths = new Set<number>()
    await until(async () => {
      const [text] = await preview.allInnerTexts()
      if (text !== undefined && text !== "") lengths.add(text.length)
      return lengths.size >= 3 || text === undefined
    }, "the answer grows on the page")
    assert.ok(lengths.size >= 3, `It was seen at the lengths ${[...lengths].join(", ")}.`)
    await idled(id, 2)
    await until(async () => (await page.getByText("End of the turn").count()) === 2, "both turns end")
    assert.equal(await preview.count(), 0)
    const message = (await eventsOf(id, "agent.message")).at(-1)
    const said = (message?.["content"] as readonly { readonly text: string }[] | undefined)?.[0]?.text ?? "nothing"
    assert.ok((await page.locator(".prose").last().innerText()).includes(said))
    assert.match(await page.locator(".request-head").last().innerText(), /Turn 2[\s\S]*\d in · \d+/)
    // Every event that is shown has its place.
    for (const badge of await page.locator(".badge").allInnerTexts()) assert.match(badge, /^\d+:\d+$/)
  })

  it("takes what a person says next, and interrupts what runs", async () => {
    const id = await world.session("hello")
    await idled(id)
    const page = await open(id)
    await page.getByRole("textbox", { name: "Message" }).fill("Tell a story. [[say 400 parts 50 ms apart]]")
    await page.keyboard.press("Enter")
    await page.locator(".said", { hasText: "400 parts" }).waitFor()
    await page.locator(".preview").waitFor()
    await page.getByRole("button", { name: "Interrupt" }).click()
    await page.getByText("Interrupted by a person").waitFor()
    await page.getByRole("textbox", { name: "Message" }).waitFor()
    assert.equal((await eventsOf(id, "user.interrupt")).length, 1)
    assert.equal((await eventsOf(id, "user.message")).length, 2)
    assert.equal(await page.locator(".preview").count(), 0)
  })

  it("answers an approval in place, with the exact arguments and their hash: allow, by the keyboard", async () => {
    const id = await world.session(refund)
    const page = await open(id)
    const call = page.locator(".call-waiting")
    await call.waitFor()
    assert.equal(await call.getByLabel("Arguments").innerText(), refundArguments)
    assert.equal(await call.locator(".hash code").innerText(), sha256Hex(refundArguments))
    assert.equal((await eventsOf(id, "agent.mcp_tool_result")).length, 0)
    await call.getByRole("button", { name: "Allow once" }).focus()
    await page.keyboard.press("Enter")
    await page.locator(".result", { hasText: '"refunded":4200' }).waitFor()
    await page.getByText("End of the turn").waitFor()
    assert.equal(await page.locator(".call-waiting").count(), 0)
    const confirmations = await eventsOf(id, "user.tool_confirmation")
    assert.deepEqual(
      confirmations.map(({ result }) => result),
      ["allow"],
    )
  })

  it("denies with a reason, which the agent is told", async () => {
    const id = await world.session(refund)
    const page = await open(id)
    await page.getByRole("button", { name: "Deny…" }).click()
    await page.getByLabel(/What the agent is told/).fill("Not without a receipt <b>please</b>")
    await page.getByRole("button", { name: "Deny", exact: true }).click()
    await page.getByText("Denied: Not without a receipt <b>please</b>").waitFor()
    await page.getByText("End of the turn").waitFor()
    await page.locator(".call-bad", { hasText: "denied" }).waitFor()
    const [result] = await eventsOf(id, "agent.mcp_tool_result")
    assert.deepEqual(result?.["content"], [{ type: "text", text: "Not without a receipt <b>please</b>" }])
    assert.equal(result?.["is_error"], true)
  })

  it("says that a custom tool waits for its client, and goes on when the client answers", async () => {
    const id = await world.session(`What is the weather? [[call get_weather {"place":"Tokyo"}]]`)
    const page = await open(id)
    await page.locator(".call-waiting", { hasText: "waits for the client" }).waitFor()
    assert.equal(await page.getByRole("button", { name: "Allow once" }).count(), 0)
    const [use] = await eventsOf(id, "agent.custom_tool_use")
    await world.client().beta.sessions.events.send(id, {
      events: [
        { type: "user.custom_tool_result", custom_tool_use_id: String(use?.["id"]), content: [{ type: "text", text: "Rain of frogs" }] },
      ],
    })
    await page.locator(".result", { hasText: "Rain of frogs" }).waitFor()
    await page.getByText("End of the turn").waitFor()
  })

  it("shows what tools, models and arguments say as text: nothing of it runs, and nothing of it hides", async () => {
    const id = await world.session(`Read. [[call read_notes {"of":"<img src=x onerror=alert(1)>\u202egnp"}]]`, {
      title: `<script>window.pwned='title'</script>`,
    })
    await idled(id)
    const page = await open(id)
    const result = page.locator(".result")
    await result.waitFor()
    const shown = await result.locator("pre").innerText()
    for (const line of hostileText.split("\n").slice(0, 3)) assert.ok(shown.includes(line), line)
    assert.ok(shown.includes("␛[31mred␛[0m ⟨U+202E⟩evil⟨U+202C⟩"), shown)
    const given = await page.getByLabel("Arguments").innerText()
    assert.ok(given.includes("<img src=x onerror=alert(1)>⟨U+202E⟩gnp"), given)
    await page.locator(".badge").last().click()
    await page.getByLabel("Value").waitFor()
    await page.goto(`${world.url}/#/sessions`)
    await page.locator(".row", { hasText: "<script>window.pwned='title'</script>" }).waitFor()
    for (const each of [page, await open(id)]) {
      assert.deepEqual(await each.evaluate(harm), { pwned: null, foreign: 0 })
    }
  })

  it("shows the raw record behind an event: where it stands, its bytes, what they say; by address too", async () => {
    const id = await world.session(`Look. [[call get_order {"id":"17"}]]`)
    await idled(id)
    const page = await open(id)
    const badge = page.locator(".call").locator("xpath=ancestor::div[contains(@class,'line')]").locator(".badge")
    await badge.click()
    const panel = page.getByRole("complementary", { name: "Record" })
    await panel.getByRole("heading", { name: "model.responded" }).waitFor()
    assert.match(await panel.getByLabel("Value").innerText(), /"name": "get_order"/)
    const [partition, offset] = (await badge.innerText()).split(":").map(Number) as [number, number]
    const facts = await panel.locator("dl").innerText()
    assert.match(facts, new RegExp(`Partition\\s+${partition}\\s+Offset\\s+${offset}\\s+Key\\s+${id}/`))
    assert.match(facts, /avro, schema \d+[\s\S]*accepted/)
    let bytes: Uint8Array | null = null
    for await (const records of world.host.log.replay("reins.sessions", partition, offset, offset + 1)) bytes = records[0]?.value ?? null
    await panel.getByRole("radio", { name: "Bytes" }).check()
    assert.equal(await panel.getByLabel("Value").innerText(), Buffer.from(bytes ?? []).toString("base64"))
    await panel.getByRole("radio", { name: "API event" }).check()
    assert.match(await panel.getByLabel("Value").innerText(), /"type": "agent\.mcp_tool_use"/)
    const address = page.url()
    assert.match(address, /\?event=sevt_/)
    await page.keyboard.press("Escape")
    await panel.waitFor({ state: "detached" })
    assert.equal(await badge.evaluate(hasFocus), true, "the focus is back where it was")
    const again = await visit(new URL(address).hash)
    await again.getByRole("heading", { name: "model.responded" }).waitFor()
  })

  it("shows the plumbing when it is asked to, and loads what came earlier", async () => {
    const id = await world.session(`Many. [[turns 80: call get_order {"id":"$i"}]]`)
    await idled(id)
    const page = await open(id)
    const { data } = await world.client().beta.sessions.events.list(id)
    assert.ok(data.length > 320, `Only ${data.length} events.`)
    await page.getByText("End of the turn").waitFor()
    assert.equal(await page.locator(".said").count(), 0, "the beginning is not loaded yet")
    await page.getByRole("button", { name: "Load earlier" }).click()
    await page.locator(".said").waitFor({ state: "attached" })
    await until(async () => (await page.locator(".request").count()) === 81, "every request is there")
    await page.getByLabel("Show every event").check()
    // Every event, once: the places that are shown are those of the API.
    await until(
      async () =>
        new Set(await page.locator("[data-event]").evaluateAll((all) => all.map((one) => one.getAttribute("data-event")))).size ===
        data.length,
      "every event is shown",
    )
    const shown = await page.locator("[data-event]").evaluateAll((all) => all.map((one) => one.getAttribute("data-event")))
    assert.deepEqual(new Set(shown), new Set(data.map((event) => event.id)))
    assert.equal(shown.length, data.length)
  })

  it("takes its stream up again where the gateway let go, and misses nothing", async () => {
    const id = await world.session("hello")
    await idled(id)
    const page = await open(id)
    await page.context().setOffline(true)
    await world
      .client()
      .beta.sessions.events.send(id, { events: [{ type: "user.message", content: [{ type: "text", text: "while away" }] }] })
    await idled(id, 2)
    complaints.splice(0)
    await page.context().setOffline(false)
    await page.locator(".said", { hasText: "while away" }).waitFor()
    await until(async () => (await page.getByText("End of the turn").count()) === 2, "both turns ended, once each")
    complaints = complaints.filter((text) => !text.includes("ERR_INTERNET_DISCONNECTED"))
  })

  for (const colorScheme of ["light", "dark"] as const) {
    it(`can be read at 400 pixels and by everyone, ${colorScheme}`, async () => {
      const id = await world.session(
        `Refund it, ${"averyverylongwordthatdoesnotbreak".repeat(5)}. [[call read_notes {"of":"Ada"}]] [[call refund {"id":"${"9".repeat(90)}","cents":1}]]`,
      )
      await idled(id)
      const page = await visit("", { colorScheme, viewport: { width: 400, height: 800 } })
      const holds = async (where: string): Promise<void> => {
        const { wide, small } = await page.evaluate(measured)
        assert.equal(wide, 400, `${where} scrolls sideways`)
        assert.deepEqual(small, [], `${where} has text without contrast`)
      }
      await page.locator(".row", { hasText: id }).waitFor()
      await holds("the list")
      await page.locator(".row", { hasText: id }).click()
      await page.locator(".call-waiting").waitFor()
      await holds("a session that waits")
      await page.getByRole("button", { name: "Deny…" }).click()
      await holds("a denial")
      await page.locator(".badge").first().click()
      await page.getByLabel("Value").waitFor()
      await holds("a record")
      const set = await page.evaluate(ground)
      assert.equal(set, colorScheme === "light" ? "rgb(250, 248, 245)" : "rgb(23, 21, 18)")
    })
  }

  it("asks for a key where keys are asked for, keeps it in its tab, and shows its tenant's sessions only", async (t) => {
    const guarded = await ConsoleWorld.start("keys")
    t.after(() => guarded.stop())
    const [acme, other] = [await guarded.key("acme"), await guarded.key("other")]
    await guarded.session("hello", { title: "Acme's", client: guarded.client(acme) })
    const foreign = await guarded.session("hello", { title: "Other's", client: guarded.client(other) })
    const page = await visit("", { url: guarded.url })
    const field = page.getByLabel("API key")
    await field.fill("rk_made_up")
    await page.keyboard.press("Enter")
    await page.getByText("not valid here").waitFor()
    await field.fill(acme)
    await page.keyboard.press("Enter")
    await page.locator(".row", { hasText: "Acme's" }).waitFor()
    assert.equal(await page.locator(".row").count(), 1)
    await page.reload()
    await page.locator(".row", { hasText: "Acme's" }).click()
    await page.locator(".connection-live").waitFor()
    assert.deepEqual(await page.context().cookies(), [])
    assert.deepEqual(await page.evaluate(stored), [[], [acme]])
    assert.ok(!page.url().includes(acme))
    await page.goto(`${guarded.url}/#/sessions/${foreign}`)
    await page.getByText("There is no session with this id.").waitFor()
    await page.goto(`${guarded.url}/#/sessions`)
    await page.getByRole("button", { name: "Forget the key" }).click()
    await page.getByLabel("API key").waitFor()
    // The browser itself tells of every 401 and 404; nothing else is to be told.
    complaints = complaints.filter((text) => !/status of (401|404)/.test(text))
  })
})
