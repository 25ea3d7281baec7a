// One member of a group as a process of its own, for tests that kill and freeze it. It tells what happens to it in lines of JSON.
//
//   [REINS_STATE=<folder>] node member-process.ts <bootstrap> <group> <instance> <sessionTimeoutMs> <topic>…

import { openKafka } from "@reins/log/kafka"

/** One line of the story. `at` is comparable between processes of one machine. */
export type Told =
  | { readonly kind: "started" }
  | { readonly kind: "assigned" | "lost"; readonly partition: number }
  | { readonly kind: "caughtUp"; readonly topic: string; readonly partition: number }
  /** Offsets `first` to `last`, all of them and in order, or `broken` says what is wrong. */
  | {
      readonly kind: "records"
      readonly topic: string
      readonly partition: number
      readonly first: number
      readonly last: number
      readonly broken: string | null
    }
  /** What it owned and thought itself alive with, from `since` to `at`, looked at again and again without a pause. */
  | { readonly kind: "sure"; readonly since: number; readonly at: number; readonly partitions: readonly number[] }
  | { readonly kind: "failed"; readonly message: string }

const lookEveryMs = 10
/** Who was not looked at for longer was stopped in between. */
const pauseMs = 100

if (import.meta.main) {
  const [bootstrap, group, instance, sessionTimeoutMs, ...topics] = process.argv.slice(2) as [string, string, string, string, ...string[]]
  const tell = (told: Told): void => {
    process.stdout.write(`${JSON.stringify(told)}\n`)
  }
  const now = (): number => performance.timeOrigin + performance.now()

  const log = await openKafka({
    brokers: bootstrap.split(","),
    instance,
    sessionTimeoutMs: Number(sessionTimeoutMs),
    heartbeatIntervalMs: Math.min(1500, Number(sessionTimeoutMs) / 10),
    requestTimeoutMs: 2000,
    ...(process.env["REINS_STATE"] === undefined ? {} : { stateDir: process.env["REINS_STATE"] }),
    stateRefused: (message) => tell({ kind: "failed", message }),
  })
  const following = await log.follow({
    group,
    instance,
    topics,
    assigned: (partition) => tell({ kind: "assigned", partition }),
    lost: (partition) => tell({ kind: "lost", partition }),
    caughtUp: (topic, partition) => tell({ kind: "caughtUp", topic, partition }),
    records: (topic, partition, records) => {
      const first = records[0]?.offset ?? -1
      const wrong = records.findIndex(
        (record, index) => record.offset !== first + index || record.value?.toString() !== String(record.offset),
      )
      tell({
        kind: "records",
        topic,
        partition,
        first,
        last: first + records.length - 1,
        broken: wrong < 0 ? null : `offset ${records[wrong]?.offset} says ${records[wrong]?.value?.toString()}`,
      })
    },
    failed: (error) => tell({ kind: "failed", message: error.message }),
  })
  tell({ kind: "started" })

  let since = now()
  let last = since
  let sure: readonly number[] = []
  const look = setInterval(() => {
    const at = now()
    const seen = following.alive() ? following.partitions() : []
    const same = seen.length === sure.length && seen.every((partition, index) => partition === sure[index])
    if (!same || at - last > pauseMs) {
      if (sure.length > 0) tell({ kind: "sure", since, at: last, partitions: sure })
      since = at
      sure = seen
      // The first look after a stop is the one that matters: it must not take what it had for its own.
      if (at - last > pauseMs && sure.length > 0) tell({ kind: "sure", since: at, at, partitions: sure })
    } else if (at - since > 100 && sure.length > 0) {
      // Told in pieces, so that a killed process has told nearly all.
      tell({ kind: "sure", since, at, partitions: sure })
      since = at
    }
    last = at
  }, lookEveryMs)

  process.once("SIGTERM", () => {
    clearInterval(look)
    if (sure.length > 0) tell({ kind: "sure", since, at: last, partitions: sure })
    void log.close()
  })
}
