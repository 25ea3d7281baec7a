/**
 * The topics as data: settings, keys and readers derive from here.
 *
 * Why the key of a `sessions` record is unique for every physical append: compaction keeps the last record of a key. With
 * key = sessionId it would erase the history that replay needs; with a key re-used by a retry it would keep the later copy where
 * the fold had accepted the earlier one. With unique keys compaction changes nothing but what a tombstone erases.
 */
export interface Topic {
  readonly suffix: string
  readonly key: string
  readonly partitionedBy: string
  readonly cleanup: "compact" | "delete"
  readonly holds: string
  /** Whether partition p of it is owned together with partition p of `sessions`; it then has the same number of partitions. */
  readonly coPartitioned: boolean
  readonly config: Readonly<Record<string, string>>
}

const day = 86_400_000
/** Stamped by the broker on every topic: a process whose clock is hours ahead is otherwise refused, and nobody's own time counts. */
const appendTime = { "message.timestamp.type": "LogAppendTime" }

export const commandsTopic: Topic = {
  suffix: "commands",
  key: "sessionId",
  partitionedBy: "murmur2(sessionId); a record elsewhere is forwarded",
  cleanup: "delete",
  holds: "the one way in: what anyone asks for, Avro or plain JSON",
  coPartitioned: true,
  config: { "retention.ms": String(7 * day), ...appendTime },
}
export const sessionsTopic: Topic = {
  suffix: "sessions",
  key: "sessionId/recordId, unique for every physical append",
  partitionedBy: "murmur2(sessionId)",
  cleanup: "compact",
  holds: "the session log, the only truth",
  coPartitioned: true,
  config: {
    ...appendTime,
    "retention.ms": "-1",
    "min.compaction.lag.ms": String(day),
    "max.compaction.lag.ms": String(7 * day),
    "delete.retention.ms": String(7 * day),
    "min.cleanable.dirty.ratio": "0.8",
    "segment.ms": String(day),
    "unclean.leader.election.enable": "false",
  },
}
/** One per backend, suffix `tools.<backend>`. */
export const toolsTopic: Topic = {
  suffix: "tools.<backend>",
  key: "sessionId/recordId, unique for every physical append",
  partitionedBy: "murmur2(sessionId)",
  cleanup: "delete",
  holds: "dispatches, claims, progress, results and cancellations of one backend",
  coPartitioned: true,
  config: { "retention.ms": String(7 * day), ...appendTime },
}
export const declarationsTopic: Topic = {
  suffix: "tool-declarations",
  key: "backend/tool",
  partitionedBy: "the one partition",
  cleanup: "compact",
  holds: "what workers say they can do",
  coPartitioned: false,
  config: { ...appendTime },
}
export const deadLettersTopic: Topic = {
  suffix: "dead-letters",
  key: "the original key",
  partitionedBy: "the partition of the original, modulo",
  cleanup: "delete",
  holds: "records nobody could read, bytes untouched, with reason and coordinates in headers",
  coPartitioned: false,
  config: { "retention.ms": String(30 * day), ...appendTime },
}

export const agentsTopic: Topic = {
  suffix: "agents",
  key: "id/recordId, unique for every physical append",
  partitionedBy: "the one partition",
  cleanup: "compact",
  holds: "agents with all their versions, and environments",
  coPartitioned: false,
  config: { ...appendTime },
}
/** Apart from the agents, so that who may read those need not see the hashes. */
export const keysTopic: Topic = {
  suffix: "keys",
  key: "id/recordId, unique for every physical append",
  partitionedBy: "the one partition",
  cleanup: "compact",
  holds: "API keys, hashed",
  coPartitioned: false,
  config: { ...appendTime },
}
/** What of the session log need not be read again. The newest of a session is kept; a log without a cleaner takes the older ones out at once. */
export const snapshotsTopic: Topic = {
  suffix: "snapshots",
  key: "sessionId",
  partitionedBy: "murmur2(sessionId)",
  cleanup: "compact",
  holds: "folded states of sessions, each with the offset up to which it is folded; never part of the truth",
  coPartitioned: true,
  config: {
    ...appendTime,
    // Soon: what a deleted session left here is to go, and the smaller the topic, the sooner a partition is taken over.
    "max.compaction.lag.ms": String(day),
    "min.cleanable.dirty.ratio": "0.3",
    "segment.ms": String(day / 4),
    // A state grows by an id with every command that its session has heard: this is room for more than 100,000.
    "max.message.bytes": String(8 * 1024 * 1024),
  },
}
export const deltasTopic: Topic = {
  suffix: "deltas",
  key: "sessionId",
  partitionedBy: "murmur2(sessionId)",
  cleanup: "delete",
  holds: "previews of answers that are still being written; never part of the truth",
  coPartitioned: true,
  config: { "retention.ms": "600000", "segment.ms": "600000", ...appendTime },
}

/** Every topic that exists without a backend. */
export const fixedTopics: readonly Topic[] = [
  commandsTopic,
  sessionsTopic,
  snapshotsTopic,
  deltasTopic,
  declarationsTopic,
  agentsTopic,
  keysTopic,
  deadLettersTopic,
]

/** The backends that Reins ships; their topics are created with the fixed ones. */
export const shippedBackends: readonly string[] = ["http", "function"]

/** Full topic names under one prefix. */
export interface TopicNames {
  readonly prefix: string
  readonly commands: string
  readonly sessions: string
  readonly snapshots: string
  readonly declarations: string
  readonly deadLetters: string
  readonly agents: string
  readonly keys: string
  readonly deltas: string
  tools(backend: string): string
  /** The backend of a `tools.*` topic, or null for any other. */
  backendOf(topic: string): string | null
}

export function topicNames(prefix: string): TopicNames {
  const toolsPrefix = `${prefix}.tools.`
  return {
    prefix,
    commands: `${prefix}.${commandsTopic.suffix}`,
    sessions: `${prefix}.${sessionsTopic.suffix}`,
    snapshots: `${prefix}.${snapshotsTopic.suffix}`,
    declarations: `${prefix}.${declarationsTopic.suffix}`,
    deadLetters: `${prefix}.${deadLettersTopic.suffix}`,
    agents: `${prefix}.${agentsTopic.suffix}`,
    keys: `${prefix}.${keysTopic.suffix}`,
    deltas: `${prefix}.${deltasTopic.suffix}`,
    tools: (backend) => toolsPrefix + backend,
    backendOf: (topic) => (topic.startsWith(toolsPrefix) ? topic.slice(toolsPrefix.length) : null),
  }
}
