import { availableParallelism, loadavg } from "node:os"
import { setTimeout as sleep } from "node:timers/promises"
// Before kafkajs: what it mends there is mended as it loads.
// oxlint-disable-next-line import/no-unassigned-import -- The import is the mending.
import "@reins/log/kafka"
import { Bench } from "../e2e/harness.ts"
import { Random } from "../simulation/random.ts"
import { Clients } from "./clients.ts"
import { findErased } from "./erased.ts"
import { Faults } from "./faults.ts"
import { readWholeLog } from "./read-log.ts"
import type { ChaosReport } from "./report.ts"
import { rolesApart, rolesTogether } from "./roles.ts"
import { readAgain, settledIn } from "./second-reading.ts"
import { chaosAgent, doomedIn, type PlannedSession, planSessions } from "./sessions.ts"
import { atRest, verdictOn } from "./verdict.ts"
import { Watch } from "./watch.ts"
import { startWorld, toolTimeoutMs, type World } from "./world.ts"

export interface ChaosOptions {
  readonly seed: number
  /** How long faults happen. */
  readonly faultsMs: number
  readonly sessions: number
  readonly brokers: 1 | 3
  /** Every service a process of its own, or those that do little together, so that two instances of each fit two cores. */
  readonly apart: boolean
  /** Within this everything must have come to rest after the last fault. */
  readonly settleMs: number
  readonly say: (line: string) => void
}

/** How often it is looked whether everything is at rest; each look reads the whole log. */
const lookEveryMs = 1000
const talkEveryMs = 15_000

/** Runs the whole of Reins as processes on a Kafka of its own, harms all of it by the seed's schedule, lets it settle, and judges what stands. */
export async function chaos(options: ChaosOptions): Promise<ChaosReport> {
  const bench = new Bench()
  const closing: (() => unknown)[] = [() => bench.close()]
  try {
    return await run(options, bench, closing)
  } finally {
    for (const close of closing.reverse()) await Promise.resolve(close()).catch(() => undefined)
  }
}

async function run(options: ChaosOptions, bench: Bench, closing: (() => unknown)[]): Promise<ChaosReport> {
  const { seed, brokers, faultsMs, say } = options
  const loadBefore = loadavg()[0] ?? 0
  const roles = options.apart ? rolesApart : rolesTogether
  say(`seed ${seed}, ${brokers} broker(s), load ${loadBefore.toFixed(1)} on ${availableParallelism()} cores`)
  const world = await startWorld({ seed, brokers, roles }, bench, closing)
  const { fleet, log, names, model } = world
  say(`${fleet.members.size} processes: two each of ${roles.map(({ name }) => name).join(", ")}`)

  const watch = new Watch()
  const clients = await Clients.connect(world, watch, seed)
  closing.push(() => clients.disconnect())
  await watch.follow(log, names.sessions, (record) => clients.saw(record))
  closing.push(() => watch.stop())
  const plans = planSessions(new Random(seed).fork("sessions"), {
    sessions: options.sessions,
    spreadMs: Math.floor(faultsMs * 0.85),
    prefix: String(seed),
    agentOf: (sessionId, traits) => chaosAgent(sessionId, world.ordersUrl, toolTimeoutMs, traits),
  })
  const faults = new Faults(world, watch, clients, { seed, forMs: faultsMs })
  const breaches: string[] = []

  const began = Date.now()
  const seconds = (): string => ((Date.now() - began) / 1000).toFixed(0)
  const talk = setInterval(() => {
    say(`${seconds()} s: ${watch.started} sessions, ${watch.running} running, ${watch.deleted} deleted, faults ${faults.told()}`)
  }, talkEveryMs)
  closing.push(() => clearInterval(talk))
  const spoken = clients.follow(plans)
  await faults.inject()
  model.wellFromNowOn()
  const faultsOver = Date.now()
  say(`The last fault was injected after ${seconds()} s; ${watch.running} sessions run.`)
  await faults.over()
  say("What was under way is over.")
  if (!(await fleet.heal())) {
    breaches.push("P7: a process did not become ready after the last fault")
    say(await fleet.story())
  } else say("All processes are ready.")
  await Promise.all([spoken, clients.answers()])
  say("All commands are acknowledged.")

  if (!(await isSettled(world, clients, plans, Date.now() + options.settleMs))) say(await fleet.story())
  clearInterval(talk)
  const settledMs = Date.now() - faultsOver
  for (const { name, code, signal } of await fleet.stop()) breaches.push(`F3: at the end ${name} drained with ${code ?? signal}`)
  breaches.unshift(...faults.breaches)
  const verdict = await verdictOn(world, { seed, plans, clients, faults, faultsOver, settledMs, breaches })
  return { ...verdict, load: [loadBefore, loadavg()[0] ?? 0] }
}

/** Looks again and again until everything is at rest by both folds, and erased what is deleted; false where that does not come about in time. */
async function isSettled(
  { log, codec, prefix, names }: World,
  clients: Clients,
  plans: readonly PlannedSession[],
  endsBy: number,
): Promise<boolean> {
  for (; Date.now() < endsBy; await sleep(lookEveryMs)) {
    const now = await readWholeLog(log, codec, prefix).catch(() => undefined)
    if (now === undefined) continue
    // Who followed had lost sight of these for a while.
    for (const [sessionId, session] of now.sessions) {
      if (session.phase !== "awaiting-tools") continue
      for (const { toolUseId, state } of session.calls) if (state.is === "held") clients.answer(sessionId, { ...state, toolUseId }, 0)
    }
    if (!plans.every(({ sessionId }) => atRest(now, sessionId))) continue
    const second = readAgain(now, prefix)
    if (!plans.every(({ sessionId }) => settledIn(second, sessionId))) continue
    if ((await findErased(log, names, doomedIn(plans))).breaches.length === 0) return true
  }
  return false
}
