import type { Kill } from "./faults.ts"
import type { SecondReading } from "./second-reading.ts"

// How long it took until others went on, as the log tells it.

/** Without a record of its role for so long, nobody needed the killed one. */
const recoveryMaxMs = 60_000

/** From each kill to the next accepted record that its role says in each partition that the killed one had, sorted. */
export function recoveries(kills: readonly Kill[], second: SecondReading): readonly number[] {
  const said = new Map<string, number[]>()
  for (const records of second.records.values()) {
    for (const { partition, timestamp, verdict, value } of records) {
      if (verdict !== "accepted") continue
      const place = `${String(value.by).split("@")[0]}/${partition}`
      const times = said.get(place)
      if (times === undefined) said.set(place, [timestamp])
      else times.push(timestamp)
    }
  }
  const found: number[] = []
  for (const { at, role, partitions: owned } of kills) {
    for (const partition of owned) {
      const next = Math.min(...role.services.flatMap((service) => (said.get(`${service}/${partition}`) ?? []).filter((time) => time > at)))
      if (next - at <= recoveryMaxMs) found.push(next - at)
    }
  }
  return found.sort((a, b) => a - b)
}

/** When the first record after this was accepted on the session log. */
export function firstAccepted({ records }: SecondReading, at: number): number {
  let first = Number.POSITIVE_INFINITY
  for (const own of records.values())
    for (const { timestamp, verdict } of own) if (verdict === "accepted" && timestamp >= at) first = Math.min(first, timestamp)
  return first
}

export function percentile(sorted: readonly number[], percent: number): number {
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0
}
