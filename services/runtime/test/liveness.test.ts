import assert from "node:assert/strict"
import { describe, it } from "node:test"
import type { Log } from "@reins/log"
import type { Clock } from "../src/clock.ts"
import { Liveness } from "../src/liveness.ts"

interface Stage {
  /** The answer to the next looks; null where it cannot be trusted. */
  members: ReadonlySet<string> | null
  /** Instances of the group `own` whose process the log knows to have ended. */
  readonly ended: Set<string>
  /** How often the group was looked at. */
  looks: number
  readonly liveness: Liveness
  pass(ms: number): Promise<void>
  /** Asks as a decision does: again whenever it is told to. */
  watch(group: string, instance: string): { gone(): boolean; stop(): void }
}

function stage(absenceGraceMs: number): Stage {
  let now = 0
  let due: { readonly at: number; readonly run: () => void }[] = []
  const clock: Clock = {
    wall: () => now,
    monotonic: () => now,
    after: (ms, run) => {
      due.push({ at: now + ms, run })
      return () => undefined
    },
  }
  const members = async (): Promise<ReadonlySet<string> | null> => {
    made.looks++
    return made.members
  }
  const ended = (group: string, instance: string): boolean => group === "own" && made.ended.has(instance)
  const log = { absenceGraceMs, members, ended } as unknown as Log
  const made: Stage = {
    ended: new Set(),
    members: new Set(["me", "other"]),
    looks: 0,
    liveness: new Liveness(log, clock, "own", "me"),
    pass: async (ms) => {
      const end = now + ms
      while (now < end) {
        now += 100
        const ready = due.filter(({ at }) => at <= now)
        due = due.filter(({ at }) => at > now)
        for (const { run } of ready) run()
        await new Promise((resolve) => setImmediate(resolve))
      }
    },
    watch: (group, instance) => {
      let wants = true
      let isGone = false
      const ask = (): void => {
        if (wants) isGone = made.liveness.gone(group, instance, ask)
      }
      ask()
      return {
        gone: () => isGone,
        stop: () => {
          wants = false
        },
      }
    },
  }
  return made
}

describe("who is gone", () => {
  it("is whom every look over the grace time has missed", async () => {
    const made = stage(6000)
    made.members = new Set(["me"])
    const watched = made.watch("own", "other")
    await made.pass(5900)
    assert.equal(watched.gone(), false)
    await made.pass(1500)
    assert.equal(watched.gone(), true)
  })

  it("is not whom a look has found in between", async () => {
    const made = stage(6000)
    made.members = new Set(["me"])
    const watched = made.watch("own", "other")
    await made.pass(4000)
    made.members = new Set(["me", "other"])
    await made.pass(1000)
    made.members = new Set(["me"])
    await made.pass(5000)
    assert.equal(watched.gone(), false)
  })

  it("is not whom a look missed once, long ago, and nobody has asked about since", async () => {
    for (const absenceGraceMs of [0, 6000]) {
      const made = stage(absenceGraceMs)
      made.members = new Set(["me"])
      made.watch("own", "other").stop()
      await made.pass(1000)
      made.members = new Set(["me", "other"])
      await made.pass(60_000)
      assert.equal(made.watch("own", "other").gone(), false, `with a grace time of ${absenceGraceMs} ms`)
      await made.pass(60_000)
      made.members = new Set(["me"])
      const watched = made.watch("own", "other")
      await made.pass(absenceGraceMs + 1000)
      assert.equal(watched.gone(), true)
    }
  })

  it("is found out for whoever asks between two looks, also when nobody else asks any more", async () => {
    const made = stage(0)
    made.members = new Set(["me"])
    made.watch("own", "other").stop()
    await made.pass(100)
    const watched = made.watch("own", "another")
    await made.pass(5000)
    assert.equal(watched.gone(), true)
  })

  it("is looked for twice a second while it lives or nobody can say, whatever the grace time", async () => {
    for (const absenceGraceMs of [0, 6000]) {
      for (const members of [new Set(["me", "other"]), null]) {
        const made = stage(absenceGraceMs)
        made.members = members
        const watched = made.watch("own", "other")
        await made.pass(10_000)
        assert.equal(watched.gone(), false)
        assert.ok(made.looks >= 10 && made.looks <= 21, `${made.looks} looks in ten seconds`)
      }
    }
  })

  it("is known at once where one miss says it", async () => {
    const made = stage(0)
    made.members = new Set(["me"])
    const watched = made.watch("own", "other")
    await made.pass(200)
    assert.equal(watched.gone(), true)
  })

  it("needs no look and no grace where the log knows that its process has ended, also while the broker counts it in", async () => {
    const made = stage(6000)
    made.ended.add("other")
    assert.equal(made.watch("own", "other").gone(), true)
    assert.equal(made.watch("foreign", "other").gone(), false)
    assert.equal(made.watch("own", "another").gone(), false)
  })

  it("is who is found to have ended between two looks", async () => {
    const made = stage(6000)
    const watched = made.watch("own", "other")
    await made.pass(700)
    assert.equal(watched.gone(), false)
    made.ended.add("other")
    await made.pass(700)
    assert.equal(watched.gone(), true)
  })

  it("is never ourselves, whatever the log says", () => {
    const made = stage(6000)
    made.ended.add("me")
    assert.equal(made.watch("own", "me").gone(), false)
  })

  it("cannot be told from an answer about our own group that lacks ourselves, an empty one, or none", async () => {
    for (const [group, members] of [
      ["own", new Set<string>()],
      ["own", new Set(["someone"])],
      ["foreign", new Set<string>()],
      ["foreign", null],
    ] as const) {
      const made = stage(6000)
      made.members = members
      const watched = made.watch(group, "other")
      await made.pass(20_000)
      assert.equal(watched.gone(), false)
    }
  })

  it("is never ourselves", () => {
    assert.equal(
      stage(0).liveness.gone("own", "me", () => undefined),
      false,
    )
  })
})
