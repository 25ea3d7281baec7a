import type { ToolDeclared, TopicNames } from "@reins/events"
import type { Session, ToolCall } from "@reins/session"
import type { OwnedPartition } from "./owned-partition.ts"
import type { View } from "./service.ts"

/** What of the process, beside the partition, a view shows. */
export interface ViewSource {
  readonly topics: TopicNames
  readonly group: string
  readonly instance: string
  declaration(backend: string, tool: string): ToolDeclared | undefined
  declarationsOf(backend: string): readonly ToolDeclared[]
  gone(group: string, instance: string, partition: number, sessionId: string): boolean
}

/** A view of one session at one moment. Made anew for every decision, so it is small and computes nothing ahead. */
export class SessionView implements View {
  readonly sessionId: string
  readonly now: number
  readonly group: string
  readonly instance: string
  readonly session: Session
  readonly settled: Session
  readonly unread: boolean
  readonly sessionsNext: number
  readonly standing: number | null
  readonly #owned: OwnedPartition
  readonly #source: ViewSource
  readonly #begun: (key: string) => boolean

  constructor(source: ViewSource, owned: OwnedPartition, sessionId: string, now: number, begun: (key: string) => boolean) {
    this.sessionId = sessionId
    this.now = now
    this.group = source.group
    this.instance = source.instance
    this.session = owned.ahead(sessionId, source.topics.sessions, now)
    this.settled = owned.sessions.get(sessionId)
    this.unread = owned.unread.of(sessionId).some(({ call }) => call === undefined)
    this.sessionsNext = owned.next.get(source.topics.sessions) ?? 0
    this.standing = owned.places.erasableFrom(sessionId)
    this.#owned = owned
    this.#source = source
    this.#begun = begun
  }

  toolCall(backend: string, toolUseId: string): ToolCall | undefined {
    return this.#owned.tools.get(backend)?.get(this.sessionId, toolUseId)
  }

  openToolCalls(): Iterable<{ readonly backend: string; readonly call: ToolCall | undefined; readonly ahead: ToolCall }> {
    return this.#owned.openToolCalls(this.sessionId, this.#source.topics, this.now)
  }

  declaration(backend: string, tool: string): ToolDeclared | undefined {
    return this.#source.declaration(backend, tool)
  }

  declarationsOf(backend: string): readonly ToolDeclared[] {
    return this.#source.declarationsOf(backend)
  }

  gone(group: string, instance: string): boolean {
    return this.#source.gone(group, instance, this.#owned.number, this.sessionId)
  }

  givenUp(claim: string): boolean {
    return this.#owned.givenUp.has(claim)
  }

  begun(key: string): boolean {
    return this.#begun(key)
  }
}
