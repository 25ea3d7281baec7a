import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { ModelPreviewed } from "@reins/events"
import type { Clock } from "@reins/runtime"
import { Story } from "@reins/session/testing"
import { defaultInvokerLimits } from "../src/config.ts"
import { Previews } from "../src/previews.ts"

/** Time that passes only when it is told to. */
class HandClock implements Clock {
  ms: number
  readonly timers: Set<{ readonly at: number; readonly run: () => void }> = new Set()

  constructor(ms: number) {
    this.ms = ms
  }

  wall(): number {
    return this.ms
  }

  monotonic(): number {
    return this.ms
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.ms + ms, run }
    this.timers.add(timer)
    return () => void this.timers.delete(timer)
  }

  /** Also lets run what was promised meanwhile. */
  async pass(ms: number): Promise<void> {
    const until = this.ms + ms
    for (;;) {
      const [next] = [...this.timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)
      if (next === undefined) break
      this.timers.delete(next)
      this.ms = next.at
      next.run()
      await settled()
    }
    this.ms = until
    await settled()
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

interface Stage {
  readonly previews: Previews
  readonly clock: HandClock
  readonly abort: AbortController
  readonly said: ModelPreviewed[]
  /** When each was said. */
  readonly at: number[]
  /** Settles the publications, oldest first, where the stage holds them. */
  readonly held: ((stands: boolean) => void)[]
}

function stage({ hold = false, from = 0 }: { readonly hold?: boolean; readonly from?: number } = {}): Stage {
  const { session } = new Story().started().requested()
  assert.ok(session.phase === "awaiting-model")
  const clock = new HandClock(from)
  const abort = new AbortController()
  const made = { clock, abort, said: [] as ModelPreviewed[], at: [] as number[], held: [] as ((stands: boolean) => void)[] }
  const previews = new Previews({
    session,
    limits: defaultInvokerLimits,
    performing: { clock, signal: abort.signal },
    publish: (one) => {
      made.said.push(one)
      made.at.push(clock.ms)
      return hold ? new Promise((resolve) => made.held.push(resolve)) : Promise.resolve(true)
    },
  })
  return { previews, ...made }
}

/** What is said, shortened. */
const shown = ({ said }: Stage): readonly string[] => said.map(({ block, kind, from, text }) => `${block} ${kind} ${from} ${text}`)

describe("an answer that is being written", () => {
  it("is published as fragments that form a prefix, one for each block with something new", async () => {
    const on = stage()
    on.previews.heard(0, "thinking", "")
    await on.clock.pass(200)
    on.previews.heard(1, "text", "Order ")
    on.previews.heard(1, "text", "17 ")
    on.previews.heard(2, "text", "Also: ")
    await on.clock.pass(200)
    on.previews.heard(2, "text", "18.")
    await on.clock.pass(200)
    assert.deepEqual(shown(on), ["0 thinking 0 ", "1 text 0 Order 17 ", "2 text 0 Also: ", "2 text 6 18."])
    const { type, sessionId, claim } = on.said[0] as ModelPreviewed
    assert.equal(type, "model.previewed")
    const { session } = new Story().started().requested()
    assert.ok(session.phase === "awaiting-model")
    assert.deepEqual([sessionId, claim], [session.sessionId, session.request.claim])
    assert.equal(on.clock.timers.size, 0, "nothing is left to wait for")
  })

  it("costs nothing where it is whole within 30 ms of its first words", async () => {
    for (const from of [0, 3, 24, 25]) {
      const on = stage({ from })
      await on.clock.pass(500)
      on.previews.heard(0, "text", "Done.")
      await on.clock.pass(29)
      on.previews.end()
      assert.equal(on.clock.timers.size, 0)
      await on.clock.pass(500)
      assert.deepEqual(on.said, [])
    }
  })

  it("is first shown soon after these 30 ms, and then every 50 ms at most, however fast it is written", async () => {
    for (const from of [0, 7, 24, 25]) {
      const on = stage({ from })
      for (let n = 0; n < 300; n++) {
        on.previews.heard(0, "text", "x")
        await on.clock.pass(1)
      }
      const [first] = on.at as [number]
      assert.ok(first >= from + 30 && first < from + 55, String(first))
      const gaps = on.at.slice(1).map((at, index) => at - (on.at[index] as number))
      assert.ok(gaps.length >= 4 && gaps.every((gap) => gap === 50), gaps.join())
      let next = 0
      for (const one of on.said) {
        assert.equal(one.from, next)
        next += one.text.length
      }
    }
  })

  it("shares its beats with the others of its process", async () => {
    const [one, other] = [stage({ from: 1 }), stage({ from: 17 })]
    for (const on of [one, other])
      for (let n = 0; n < 120; n++) {
        on.previews.heard(0, "text", "x")
        await on.clock.pass(1)
      }
    assert.ok([...one.at, ...other.at].every((at) => at % 25 === 0))
  })

  it("is never cut through a character", async () => {
    const on = stage()
    const text = "a🧵b🧵"
    for (const unit of text.split("")) {
      on.previews.heard(0, "text", unit)
      await on.clock.pass(100)
    }
    assert.deepEqual(shown(on), ["0 text 0 a", "0 text 1 🧵", "0 text 3 b", "0 text 4 🧵"])
  })

  it("does not wait for the log: one publication is under way at most, and what comes meanwhile leaves together", async () => {
    const on = stage({ hold: true })
    on.previews.heard(0, "text", "a")
    await on.clock.pass(100)
    for (const text of ["b", "c", "d"]) {
      on.previews.heard(0, "text", text)
      await on.clock.pass(1000)
    }
    assert.deepEqual(shown(on), ["0 text 0 a"])
    on.held[0]?.(true)
    await settled()
    await on.clock.pass(25)
    assert.deepEqual(shown(on), ["0 text 0 a", "0 text 1 bcd"])
  })

  it("is shown no further once a fragment was lost: what follows a gap is no prefix", async () => {
    const on = stage({ hold: true })
    on.previews.heard(0, "text", "a")
    on.previews.heard(1, "text", "b")
    await on.clock.pass(100)
    on.held[0]?.(true)
    on.held[1]?.(false)
    await settled()
    await on.clock.pass(100)
    on.previews.heard(0, "text", "c")
    await on.clock.pass(1000)
    assert.deepEqual(shown(on), ["0 text 0 a", "1 text 0 b"])
    assert.equal(on.clock.timers.size, 0)
  })

  it("is given up where more waits for the log than may", async () => {
    const on = stage({ hold: true })
    on.previews.heard(0, "text", "a")
    await on.clock.pass(100)
    const text = "x".repeat(1024)
    for (let n = 0; n < 257; n++) on.previews.heard(0, "text", text)
    on.held[0]?.(true)
    await settled()
    await on.clock.pass(1000)
    assert.deepEqual(shown(on), ["0 text 0 a"])
    const within = stage()
    for (let n = 0; n < 256; n++) within.previews.heard(0, "text", text)
    await within.clock.pass(100)
    assert.equal(within.said[0]?.text.length, 256 * 1024)
  })

  it("is not shown any more after its end or an abort", async () => {
    for (const stop of [(on: Stage) => on.previews.end(), (on: Stage) => on.abort.abort()]) {
      const on = stage()
      on.previews.heard(0, "text", "a")
      await on.clock.pass(100)
      on.previews.heard(0, "text", "b")
      stop(on)
      on.previews.heard(0, "text", "c")
      await on.clock.pass(1000)
      assert.deepEqual(shown(on), ["0 text 0 a"])
      assert.equal(on.clock.timers.size, 0)
    }
  })
})
