import type { Account } from "../chaos/oracle.ts"
import { addAccount, emptyAccount } from "../chaos/oracle.ts"

/** One death as it is told: where, and what it cost. */
export interface Told {
  readonly log: string
  readonly point: string
  readonly reached: boolean
  readonly account: Account
  readonly breaches: readonly string[]
}

/** Points by what the process was about to do, with what the deaths there cost. */
export function table(told: readonly Told[]): string {
  const rows = new Map<string, { points: number; crashes: number; account: Account; breaches: number }>()
  for (const { log, point, reached, account, breaches } of told) {
    const name = `${log}  ${groupOf(point)}`
    const row = rows.get(name) ?? { points: 0, crashes: 0, account: emptyAccount(), breaches: 0 }
    row.points++
    if (reached) row.crashes++
    addAccount(row.account, account)
    row.breaches += breaches.length
    rows.set(name, row)
  }
  const head = ["point", "points", "crashes", "pure", "idemp.", "keyed", "query.", "unsafe", "unknown", "model+", "breaches"]
  const line = (cells: readonly (string | number)[]): string =>
    cells.map((cell, index) => (index === 0 ? String(cell).padEnd(46) : String(cell).padStart(9))).join("")
  const body = [...rows].map(([name, { points, crashes, account, breaches }]) => {
    const { pure, idempotent, keyed, queryable, unsafe } = account.reruns
    return line([
      name,
      points,
      crashes,
      pure ?? 0,
      idempotent ?? 0,
      keyed ?? 0,
      queryable ?? 0,
      unsafe ?? 0,
      account.unknown,
      account.extraModelCalls,
      breaches,
    ])
  })
  return [line(head), ...body].join("\n")
}

/** `append sessions model.requested before` is told as `append sessions before`. */
function groupOf(point: string): string {
  const words = point.split(" ")
  switch (words[0]) {
    case "append":
      return `append ${words[1]}${words[2] === "tombstone" ? " tombstone" : ""} ${words.at(-1)}`
    case "read":
      return `read back ${words[2]}`
    case "effect":
      return `effect ${words[1]} ${words.at(-1)}`
    default:
      return point
  }
}
