import assert from "node:assert/strict"
import { test } from "node:test"
import type { Clock } from "../src/clock.ts"
import { LogTime } from "../src/clock.ts"
import { Timers } from "../src/timers.ts"

/** A clock that goes on when it is told to. */
class HandClock implements Clock {
  #now = 0
  #due: { at: number; run: () => void }[] = []
  wall = (): number => 0
  monotonic = (): number => this.#now
  after = (ms: number, run: () => void): (() => void) => {
    const due = { at: this.#now + Math.max(0, ms), run }
    this.#due.push(due)
    return () => {
      this.#due = this.#due.filter((one) => one !== due)
    }
  }

  to(ms: number): void {
    for (;;) {
      const [first] = this.#due.filter(({ at }) => at <= ms).sort((a, b) => a.at - b.at)
      if (first === undefined) break
      this.#due = this.#due.filter((one) => one !== first)
      this.#now = first.at
      first.run()
    }
    this.#now = ms
  }
}

const began = 1_795_000_000_000

test("a timer fires at its log time, and one that is set earlier before it", () => {
  const clock = new HandClock()
  const time = new LogTime(clock)
  time.read(began)
  const fired: string[] = []
  const timers = new Timers<string>(
    clock,
    () => time.now(),
    (what) => fired.push(`${what}@${time.now() - began}`),
  )
  timers.set(began + 5000, "a", "a")
  timers.set(began + 1500, "b", "b")
  clock.to(10_000)
  assert.deepEqual(fired, ["b@1501", "a@5001"])
})

test("what was set before log time was known is due by what it turns out to be, and holds nothing up that is due later", () => {
  const clock = new HandClock()
  const time = new LogTime(clock)
  const fired: string[] = []
  const timers = new Timers<string>(
    clock,
    () => time.now(),
    (what) => fired.push(what),
  )
  timers.set(began + 2000, "a", "a")
  clock.to(60_000)
  assert.deepEqual(fired, [])
  time.read(began)
  timers.set(began + 4000, "b", "b")
  clock.to(63_500)
  assert.deepEqual(fired, ["a"])
  clock.to(66_000)
  assert.deepEqual(fired, ["a", "b"])
})
