import type { AgentSaved, EnvironmentSaved, KeySaved } from "@reins/events"
import type { Verdict } from "./session.ts"

/** One version of an agent. */
export interface AgentVersion {
  readonly version: number
  /** A JSON object as the API shows it. */
  readonly agent: string
  /** Log time. */
  readonly savedAt: number
}

export interface AgentEntry {
  readonly id: string
  readonly tenant: string
  readonly createdAt: number
  readonly changedAt: number
  readonly archivedAt: number | null
  /** Oldest first; the newest counts. */
  readonly versions: readonly AgentVersion[]
}

export interface EnvironmentEntry {
  readonly id: string
  readonly tenant: string
  readonly revision: number
  readonly environment: string
  readonly createdAt: number
  readonly changedAt: number
  readonly archivedAt: number | null
}

export interface KeyEntry {
  readonly id: string
  readonly tenant: string
  readonly name: string
  readonly hash: string
  readonly createdAt: number
  readonly revokedAt: number | null
}

/** What became of one save. */
export interface Save {
  readonly verdict: Verdict
  readonly id: string
  /** The version or revision that it was to be. */
  readonly version: number
  /** Log time. */
  readonly at: number
}

/**
 * The fold of the directory: agents with all their versions, environments, API keys. The log is the arbiter here too.
 *
 * N1 A version or revision is accepted only as the successor of the newest: of two that were saved at once, the first stands.
 * N2 The same eventId twice is one save.
 * N3 Environments that are not archived have different names within a tenant.
 * N4 What is archived changes no more; what is deleted stays deleted; what is revoked stays revoked.
 * N5 Whose a record is never changes, and a key's hash is that key's alone.
 */
export class DirectoryFold {
  readonly agents: Map<string, AgentEntry> = new Map()
  readonly environments: Map<string, EnvironmentEntry> = new Map()
  readonly keys: Map<string, KeyEntry> = new Map()
  readonly #saved = new Map<string, Save>()
  readonly #newestUnder = new Map<string, string>()
  readonly #deleted = new Set<string>()
  readonly #keyIds = new Map<string, string>()
  /** The environment in use, by tenant and name: N3 says that there is one at most. */
  readonly #named = new Map<string, string>()

  /** What a save came to; undefined while its record has not been read. */
  verdictOf(eventId: string): Verdict | undefined {
    return this.#saved.get(eventId)?.verdict
  }

  /**
   * The save of a request that was accepted. A request whose save came too late saves again, on the newest state: its saves are
   * `<requestId>`, `<requestId>.1`, `<requestId>.2` and so on.
   */
  acceptedOf(requestId: string): Save | null {
    for (let attempt = 0; ; attempt++) {
      const save = this.#saved.get(attempt === 0 ? requestId : `${requestId}.${attempt}`)
      if (save === undefined) return null
      if (save.verdict === "accepted") return save
    }
  }

  /** The eventId of the newest save whose eventId begins with this, which ends in `_`; null where it is older than `since` in log time. */
  savedUnder(prefix: string, since: number): string | null {
    const eventId = this.#newestUnder.get(prefix)
    const save = eventId === undefined ? undefined : this.#saved.get(eventId)
    return eventId !== undefined && save !== undefined && save.at >= since ? eventId : null
  }

  apply(event: AgentSaved | EnvironmentSaved | KeySaved, timestamp: number): Verdict {
    if (this.#saved.has(event.eventId)) return "duplicate"
    const accepted = this.#apply(event, timestamp)
    const verdict: Verdict = accepted ? "accepted" : "superseded"
    const version = event.type === "agent.saved" ? event.version : event.type === "environment.saved" ? event.revision : 1
    this.#saved.set(event.eventId, { verdict, id: event.id, version, at: timestamp })
    this.#newestUnder.set(event.eventId.slice(0, event.eventId.lastIndexOf("_") + 1), event.eventId)
    return verdict
  }

  #apply(event: AgentSaved | EnvironmentSaved | KeySaved, timestamp: number): boolean {
    switch (event.type) {
      case "agent.saved":
        return this.#agent(event, timestamp)
      case "environment.saved":
        return this.#environment(event, timestamp)
      case "key.saved":
        return this.#key(event, timestamp)
      default:
        return ((_: never) => false)(event)
    }
  }

  #agent({ id, tenant, version, agent, archived }: AgentSaved, timestamp: number): boolean {
    const before = this.agents.get(id)
    if (before === undefined) {
      if (version !== 1 || archived) return false
      const versions = [{ version, agent, savedAt: timestamp }]
      this.agents.set(id, { id, tenant, createdAt: timestamp, changedAt: timestamp, archivedAt: null, versions })
      return true
    }
    // N4
    if (before.tenant !== tenant || before.archivedAt !== null) return false
    const newest = before.versions.length
    if (archived) {
      if (version !== newest) return false
      this.agents.set(id, { ...before, changedAt: timestamp, archivedAt: timestamp })
      return true
    }
    // N1
    if (version !== newest + 1) return false
    this.agents.set(id, { ...before, changedAt: timestamp, versions: [...before.versions, { version, agent, savedAt: timestamp }] })
    return true
  }

  #environment({ id, tenant, revision, environment, archived }: EnvironmentSaved, timestamp: number): boolean {
    const before = this.environments.get(id)
    if (this.#deleted.has(id) || revision !== (before?.revision ?? 0) + 1 || (before !== undefined && before.tenant !== tenant))
      return false
    if (environment === null) {
      if (before === undefined) return false
      this.environments.delete(id)
      this.#freeName(before)
      this.#deleted.add(id)
      return true
    }
    // N4
    if (before !== undefined && before.archivedAt !== null) return false
    // N3
    if (!archived && this.environmentNamed(tenant, nameOf(environment), id) !== undefined) return false
    if (before !== undefined) this.#freeName(before)
    if (!archived) this.#named.set(nameKey(tenant, nameOf(environment)), id)
    this.environments.set(id, {
      id,
      tenant,
      revision,
      environment,
      createdAt: before?.createdAt ?? timestamp,
      changedAt: timestamp,
      archivedAt: archived ? timestamp : null,
    })
    return true
  }

  /** Of one that is archived the name may be another's by now. */
  #freeName({ id, tenant, environment }: EnvironmentEntry): void {
    const key = nameKey(tenant, nameOf(environment))
    if (this.#named.get(key) === id) this.#named.delete(key)
  }

  /** Another environment of this name that is in use. */
  environmentNamed(tenant: string, name: string | null, exceptId: string): EnvironmentEntry | undefined {
    const id = name === null ? undefined : this.#named.get(nameKey(tenant, name))
    return id === undefined || id === exceptId ? undefined : this.environments.get(id)
  }

  /** The key of this hash that is not revoked. */
  keyOf(hash: string): KeyEntry | null {
    const key = this.keys.get(this.#keyIds.get(hash) ?? "")
    return key === undefined || key.revokedAt !== null ? null : key
  }

  #key({ id, tenant, name, hash, revoked }: KeySaved, timestamp: number): boolean {
    const before = this.keys.get(id)
    if (before === undefined) {
      // A hash is one key's: whoever wrote another one under it would otherwise move the caller into another tenant.
      if (this.#keyIds.has(hash)) return false
      this.#keyIds.set(hash, id)
      this.keys.set(id, { id, tenant, name, hash, createdAt: timestamp, revokedAt: revoked ? timestamp : null })
      return true
    }
    if (!revoked || before.revokedAt !== null || before.tenant !== tenant) return false
    this.keys.set(id, { ...before, revokedAt: timestamp })
    return true
  }
}

function nameKey(tenant: string, name: string | null): string {
  return JSON.stringify([tenant, name])
}

function nameOf(json: string): string | null {
  try {
    const { name } = JSON.parse(json) as { name?: unknown }
    return typeof name === "string" ? name : null
  } catch {
    return null
  }
}
