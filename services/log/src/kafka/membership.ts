import { assign, type Member } from "../assignment.ts"
import { LogUnavailableError } from "../log.ts"
import { asError, type Broker, brokerErrorType, type Connections, defaults, type KafkaOptions, Link } from "./client.ts"
import { kafkajs } from "./patched.ts"
import type { Entry, Presence } from "./presence.ts"

const { MemberAssignment, MemberMetadata } = kafkajs.AssignerProtocol

export interface MembershipOptions {
  readonly kafka: KafkaOptions
  readonly group: string
  /** What this machine knows of the members that it has and had. */
  readonly presence: Presence | null
  /** What is followed at the moment; a topic that is added counts from the next rebalance on. */
  topics(): readonly string[]
  /** All partitions owned from now on. What was owned before and is in the list was owned all the time. */
  assigned(partitions: readonly number[]): void
  /** Everything that was owned may belong to others now. */
  broken(): void
  failed(error: Error): void
}

const protocolName = "reins-copartition-sticky-1"
const backoffMaxMs = 1000
/** How often and how long someone who evicts looks whether its own join has arrived. */
const evictEveryMs = 20
const evictForMs = 5000

/** What a member says of itself when it joins. `m` is the id under which it received `p`: the coordinator gives a member that it threw out another one. */
interface Claim {
  readonly i: string
  readonly m: string
  readonly p: readonly number[]
}

/**
 * Membership in a consumer group, and nothing else: join, sync, heartbeat, leave, spoken over kafkajs's broker objects. kafkajs's own
 * consumer is not used, because it says neither that a partition is about to be lost nor when a heartbeat that succeeded was sent, and
 * counts on handlers to end before it heartbeats.
 *
 * M1 `alive` is true only while the coordinator surely counts us in: a heartbeat or sync that was answered well was sent less than
 *    the session timeout less a margin ago, by a clock that nobody sets.
 * M2 From the moment when we agree to a rebalance (JoinGroup is sent) until its outcome is known, `alive` is false: the
 *    others may learn before us what they got.
 * M3 A join that did not come out in one go, and a membership that the coordinator denies, lose everything: nobody can say who
 *    owned what meanwhile. What is assigned after that is read from its start again.
 * M4 We leave the group for another member only if its process is gone for certain (`Presence`, N1): the coordinator hands its partitions
 *    on at once, and one that lived would go on until its next heartbeat.
 */
export class Membership {
  readonly #options: MembershipOptions
  readonly #link: Link
  readonly #sessionTimeoutMs: number
  readonly #heartbeatIntervalMs: number
  readonly #marginMs: number
  #memberId = ""
  #generation = -1
  #owned: readonly number[] = []
  #joined = false
  #confirmedAt = Number.NEGATIVE_INFINITY
  #stopped = false
  #entry: Entry | null | undefined
  #evicting = false
  #wake: (() => void) | undefined

  constructor(options: MembershipOptions) {
    this.#options = options
    this.#link = new Link(options.kafka)
    this.#sessionTimeoutMs = options.kafka.sessionTimeoutMs ?? defaults.sessionTimeoutMs
    this.#heartbeatIntervalMs = options.kafka.heartbeatIntervalMs ?? defaults.heartbeatIntervalMs
    this.#marginMs = Math.min(1000, this.#sessionTimeoutMs / 6)
  }

  /** Connects, so that a broker that is down is known before anything begins. */
  async open(): Promise<void> {
    await this.#link.open()
  }

  start(): void {
    void this.#run()
  }

  alive(): boolean {
    return this.#joined && performance.now() - this.#confirmedAt < this.#sessionTimeoutMs - this.#marginMs
  }

  /** Who we are in the group, for commits. */
  identity(): { readonly memberId: string; readonly generation: number } {
    return { memberId: this.#memberId, generation: this.#generation }
  }

  /** Joins anew with what is followed now, because it spans more partitions than the group has shared out. */
  rejoin(): void {
    this.#joined = false
    this.#wake?.()
  }

  /** Leaves the group, so that the others need not wait for the session to end. */
  async stop(): Promise<void> {
    // One that could not go on has not left the group: its entry stays, so that its successor does it when its process has ended.
    if (this.#stopped) return
    this.#stopped = true
    this.#joined = false
    this.#wake?.()
    const memberId = this.#memberId
    if (memberId !== "") {
      const { group, kafka } = this.#options
      // Over a connection of its own: a join may be waiting for its answer on the other.
      const link = new Link(kafka)
      const leaving = link.use(async (connections) => (await connections.coordinator(group)).leaveGroup({ groupId: group, memberId }))
      await Promise.race([leaving.catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 2000).unref())])
      link.close()
    }
    this.#link.close()
    // Last: were we to die before the group is left, our successor should leave it for us.
    this.#entry?.release()
  }

  async #run(): Promise<void> {
    let attempts = 0
    let backoffMs = 0
    while (!this.#stopped) {
      let connections: Connections | undefined
      try {
        connections = await this.#link.open()
        const coordinator = await connections.coordinator(this.#options.group)
        if (!this.#joined) {
          if (attempts++ > 0) this.#breakUp()
          await this.#join(connections, coordinator)
          attempts = 0
        }
        backoffMs = 0
        await this.#beat(coordinator)
      } catch (error) {
        if (this.#stopped) return
        const type = brokerErrorType(error)
        if (type === "UNKNOWN_MEMBER_ID" || type === "ILLEGAL_GENERATION" || type === "FENCED_INSTANCE_ID") {
          if (type === "UNKNOWN_MEMBER_ID") this.#memberId = ""
          this.#joined = false
          this.#breakUp()
        } else if (type !== undefined && fatal.has(type)) {
          this.#stopped = true
          this.#link.close()
          this.#breakUp()
          this.#options.failed(
            new LogUnavailableError(
              `${this.#options.kafka.instance} cannot be a member of ${this.#options.group}: ${asError(error).message}.`,
              { cause: error },
            ),
          )
          return
        } else if (error instanceof TypeError || error instanceof RangeError) {
          this.#stopped = true
          this.#link.close()
          this.#breakUp()
          this.#options.failed(error)
          return
        } else if (type === undefined && connections !== undefined) {
          // No answer. The membership may well stand: heartbeats go on over other connections, and `alive` watches the time.
          this.#link.drop(connections)
        }
        if (type !== "REBALANCE_IN_PROGRESS" && type !== "UNKNOWN_MEMBER_ID") {
          backoffMs = Math.min(backoffMaxMs, Math.max(50, backoffMs * 2))
          await this.#sleep(backoffMs)
        }
      }
    }
  }

  async #join(connections: Connections, coordinator: Broker): Promise<void> {
    const { group, kafka } = this.#options
    const topics = this.#options.topics()
    if (this.#entry === undefined) this.#entry = this.#options.presence?.enter(group, kafka.instance) ?? null
    this.#evict()
    const claim: Claim = { i: kafka.instance, m: this.#memberId, p: this.#owned }
    const joined = await coordinator.joinGroup({
      groupId: group,
      sessionTimeout: this.#sessionTimeoutMs,
      // Longer than a session: whoever does not come to the rebalance has stopped counting itself in before the others go on.
      rebalanceTimeout: this.#sessionTimeoutMs * 2,
      memberId: this.#memberId,
      groupProtocols: [
        {
          name: protocolName,
          metadata: MemberMetadata.encode({ version: 1, topics: [...topics], userData: Buffer.from(JSON.stringify(claim)) }),
        },
      ],
    })
    this.#memberId = joined.memberId
    this.#generation = joined.generationId
    const groupAssignment = joined.memberId === joined.leaderId ? await share(connections, joined.members) : []
    const sentAt = performance.now()
    const { memberAssignment } = await coordinator.syncGroup({
      groupId: group,
      generationId: joined.generationId,
      memberId: joined.memberId,
      groupAssignment,
    })
    if (this.#stopped) return
    const assignment = MemberAssignment.decode(memberAssignment)?.assignment ?? {}
    this.#owned = [...new Set(Object.values(assignment).flat())].sort((a, b) => a - b)
    this.#confirmedAt = sentAt
    this.#joined = true
    this.#options.assigned(this.#owned)
  }

  /** Heartbeats until one fails. */
  async #beat(coordinator: Broker): Promise<void> {
    const { group } = this.#options
    for (;;) {
      await this.#sleep(Math.max(0, this.#confirmedAt + this.#heartbeatIntervalMs - performance.now()))
      if (this.#stopped || !this.#joined) return
      const sentAt = performance.now()
      try {
        await coordinator.heartbeat({ groupId: group, groupGenerationId: this.#generation, memberId: this.#memberId })
      } catch (error) {
        if (brokerErrorType(error) === "REBALANCE_IN_PROGRESS") this.#joined = false
        throw error
      }
      this.#confirmedAt = sentAt
      this.#evict()
    }
  }

  /**
   * Takes members out whose process this machine knows to be gone (M4), beside whatever else goes on. Where it does not come to pass it is
   * tried again with the next heartbeat or join, and the session of the dead ends in any case.
   */
  #evict(): void {
    const { group, kafka, presence } = this.#options
    if (presence === null || this.#evicting) return
    const gone = presence.unburied(group).filter((instance) => instance !== kafka.instance)
    if (gone.length === 0) return
    this.#evicting = true
    // Over connections of its own: on the others a join may be waiting for the very member that is to be taken out.
    const link = new Link(kafka)
    evict(link, group, kafka.instance, new Set(gone), () => this.#stopped)
      .then((done) => {
        if (!done) return
        for (const instance of gone) presence.bury(group, instance)
        // The next heartbeat, now: it hears of the rebalance that the eviction began.
        this.#wake?.()
      })
      .catch((error: unknown) => this.#options.failed(asError(error)))
      .finally(() => {
        link.close()
        this.#evicting = false
      })
  }

  #breakUp(): void {
    this.#joined = false
    if (this.#owned.length === 0) return
    this.#owned = []
    this.#options.broken()
  }

  #sleep(forMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve()
      }
      const timer = setTimeout(done, forMs)
      this.#wake = done
    })
  }
}

const fatal: ReadonlySet<string> = new Set([
  "GROUP_AUTHORIZATION_FAILED",
  "INVALID_GROUP_ID",
  "INVALID_SESSION_TIMEOUT",
  "INCONSISTENT_GROUP_PROTOCOL",
  "GROUP_MAX_SIZE_REACHED",
])

/**
 * Leaves the group for these instances. Only after our own join has arrived: a group that its last member leaves is empty, and who joins
 * an empty group waits for others that may come (`group.initial.rebalance.delay.ms`, 3 s by default). True once none of them is a member.
 */
async function evict(link: Link, group: string, own: string, gone: ReadonlySet<string>, isOver: () => boolean): Promise<boolean> {
  const end = performance.now() + evictForMs
  while (!isOver() && performance.now() < end) {
    try {
      if (await link.use((connections) => leaveFor(connections, group, own, gone))) return true
    } catch (error) {
      if (error instanceof TypeError || error instanceof RangeError) throw error
      // A join that waits for the dead sends no heartbeat after which it would be tried again.
    }
    await new Promise((resolve) => setTimeout(resolve, evictEveryMs))
  }
  return false
}

/** False while we are no member ourselves. */
async function leaveFor(connections: Connections, group: string, own: string, gone: ReadonlySet<string>): Promise<boolean> {
  const coordinator = await connections.coordinator(group)
  const { groups } = await coordinator.describeGroups({ groupIds: [group] })
  const members = groups.find(({ groupId }) => groupId === group)?.members ?? []
  if (!members.some(({ clientId }) => clientId === own)) return false
  for (const { memberId, clientId } of members) {
    if (!gone.has(clientId)) continue
    try {
      await coordinator.leaveGroup({ groupId: group, memberId })
    } catch (error) {
      if (brokerErrorType(error) !== "UNKNOWN_MEMBER_ID") throw error
    }
  }
  return true
}

/** Shares the partitions out among the members: by number, the same for all topics, and staying where they are as far as it goes. */
async function share(
  connections: Connections,
  members: readonly { memberId: string; memberMetadata: Buffer }[],
): Promise<{ memberId: string; memberAssignment: Buffer }[]> {
  const known = members.map(({ memberId, memberMetadata }) => {
    const said = MemberMetadata.decode(memberMetadata)
    return { memberId, topics: said?.topics ?? [], claim: readClaim(said?.userData) }
  })
  const topics = [...new Set(known.flatMap((member) => member.topics))].sort()
  // A topic that only another member follows has no metadata here yet.
  await connections.refresh(topics)
  const counts = new Map(topics.map((topic) => [topic, connections.partitionCount(topic) ?? 0]))
  const plan = assign(
    known.map(({ memberId, claim }): Member => ({ id: memberId, instance: claim.i, owned: claim.m === memberId ? claim.p : [] })),
    Math.max(0, ...counts.values()),
  )
  return known.map(({ memberId, topics: followed }) => {
    const mine = plan.get(memberId) ?? []
    const assignment: Record<string, number[]> = {}
    for (const topic of followed) assignment[topic] = mine.filter((partition) => partition < (counts.get(topic) ?? 0))
    return { memberId, memberAssignment: MemberAssignment.encode({ version: 1, assignment, userData: Buffer.alloc(0) }) }
  })
}

function readClaim(userData: Buffer | undefined): Claim {
  try {
    const { i, m, p } = JSON.parse(userData?.toString("utf8") ?? "") as Partial<Claim>
    if (typeof i === "string" && typeof m === "string" && Array.isArray(p) && p.every((partition) => Number.isInteger(partition)))
      return { i, m, p }
  } catch {
    // Somebody else's protocol under our name: it owns nothing that we would leave it.
  }
  return { i: "", m: "", p: [] }
}
