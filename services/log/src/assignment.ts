/** A member of a group as the one that assigns sees it. `owned` counts only where the membership never broke. */
export interface Member {
  readonly id: string
  readonly instance: string
  readonly owned: readonly number[]
}

/**
 * Sticky and co-partitioned: every member keeps what it owns up to its quota, and the rest goes to those below theirs, so
 * a join or a leave moves as few partitions as possible. Partition p means p of every topic that the member follows.
 */
export function assign(members: readonly Member[], partitions: number): Map<string, number[]> {
  const order = [...members].sort((a, b) => b.owned.length - a.owned.length || compare(a.instance, b.instance) || compare(a.id, b.id))
  const floor = Math.floor(partitions / order.length)
  const extra = partitions % order.length
  const quota = (index: number): number => floor + (index < extra ? 1 : 0)
  const plan = new Map<string, number[]>(order.map((member) => [member.id, []]))
  const taken = new Set<number>()
  order.forEach((member, index) => {
    const mine = plan.get(member.id) as number[]
    for (const partition of [...member.owned].sort((a, b) => a - b)) {
      if (partition >= partitions || taken.has(partition) || mine.length >= quota(index)) continue
      taken.add(partition)
      mine.push(partition)
    }
  })
  const free: number[] = []
  for (let partition = 0; partition < partitions; partition++) if (!taken.has(partition)) free.push(partition)
  order.forEach((member, index) => {
    const mine = plan.get(member.id) as number[]
    while (mine.length < quota(index) && free.length > 0) mine.push(free.shift() as number)
    mine.sort((a, b) => a - b)
  })
  return plan
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
