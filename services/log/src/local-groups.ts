import { assign } from "./assignment.ts"

/** A member of a group as the coordinator sees it; `local-following.ts` is one. */
export interface GroupMember {
  readonly id: string
  readonly instance: string
  /** How many partitions its topics span: the largest count among them. */
  partitionSpan(): number
  partitions(): readonly number[]
  /** False while its process is stopped or dead: it could not take part in a rebalance. */
  answering(): boolean
  revoke(partitions: readonly number[]): void
  grant(partitions: readonly number[]): void
  /** What it owns now is its share, be it nothing. */
  shared(): void
}

interface Group {
  readonly members: Set<GroupMember>
  rebalancing: boolean
}

/**
 * Group membership without a broker. Everything happens in one process, so a rebalance is one step: all members lose what
 * moves before any member gets it. As with a broker, a member that does not answer holds the rebalance up until its
 * membership ends, and what changes in one turn of the loop is rebalanced together.
 */
export class LocalGroups {
  readonly #groups = new Map<string, Group>()
  readonly #defer: (run: () => void) => void

  constructor(defer: (run: () => void) => void) {
    this.#defer = defer
  }

  join(name: string, member: GroupMember): void {
    let group = this.#groups.get(name)
    if (group === undefined) {
      group = { members: new Set(), rebalancing: false }
      this.#groups.set(name, group)
    }
    group.members.add(member)
    this.#schedule(group)
  }

  leave(name: string, member: GroupMember): void {
    const group = this.#groups.get(name)
    if (group?.members.delete(member)) this.#schedule(group)
  }

  /** A member follows other topics or answers again. */
  changed(name: string): void {
    const group = this.#groups.get(name)
    if (group !== undefined) this.#schedule(group)
  }

  /** Null where the group has no member: like a broker, we do not tell an empty group from one that never was. */
  instances(name: string): ReadonlySet<string> | null {
    const group = this.#groups.get(name)
    if (group === undefined || group.members.size === 0) return null
    return new Set([...group.members].map((member) => member.instance))
  }

  #schedule(group: Group): void {
    if (group.rebalancing) return
    group.rebalancing = true
    this.#defer(() => {
      group.rebalancing = false
      rebalance(group)
    })
  }
}

function rebalance(group: Group): void {
  const members = [...group.members]
  if (members.length === 0 || !members.every((member) => member.answering())) return
  const span = Math.max(...members.map((member) => member.partitionSpan()))
  const plan = assign(
    members.map((member) => ({ id: member.id, instance: member.instance, owned: member.partitions() })),
    span,
  )
  for (const member of members) {
    const planned = new Set(plan.get(member.id))
    const revoked = member.partitions().filter((partition) => !planned.has(partition))
    if (revoked.length > 0) member.revoke(revoked)
  }
  for (const member of members) {
    const owned = new Set(member.partitions())
    const granted = (plan.get(member.id) ?? []).filter((partition) => !owned.has(partition))
    // A callback of another member may have ended this one meanwhile; its leaving has scheduled a rebalance of its own.
    if (!group.members.has(member)) continue
    member.shared()
    if (granted.length > 0) member.grant(granted)
  }
}
