import { createRequire } from "node:module"
import net from "node:net"
import tls from "node:tls"
import type * as KafkaJs from "kafkajs"
import { LogUnavailableError, TopicMismatchError } from "../log.ts"
import { assertPatched, kafkajs } from "./patched.ts"

export interface KafkaOptions {
  /** `host:port`, at least one. */
  readonly brokers: readonly string[]
  /** Unique for every start of a process; the broker knows us by it, so it is what `members` answers. */
  readonly instance: string
  readonly ssl?: boolean | tls.ConnectionOptions
  readonly sasl?: { readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512"; readonly username: string; readonly password: string }
  /** How long a silent member counts as one. A killed one is replaced after this time. Default 6000. */
  readonly sessionTimeoutMs?: number
  /** Default 1500. */
  readonly heartbeatIntervalMs?: number
  /** How long an answer may take before its outcome counts as unknown. Default 5000. */
  readonly requestTimeoutMs?: number
  /** A folder of this machine in which members tell each other that they are gone (`Presence`). Without it a session has to time out. */
  readonly stateDir?: string
  /** Told once why `stateDir` cannot be used; everything goes on without it. */
  readonly stateRefused?: (why: string) => void
  /** Opens every connection instead of net and tls: a test puts its faults here. */
  readonly socketFactory?: SocketFactory
}

export type SocketFactory = (target: {
  host: string
  port: number
  ssl: tls.ConnectionOptions | undefined
  onConnect: () => void
}) => net.Socket

export const defaults: { readonly sessionTimeoutMs: number; readonly heartbeatIntervalMs: number; readonly requestTimeoutMs: number } = {
  sessionTimeoutMs: 6000,
  heartbeatIntervalMs: 1500,
  requestTimeoutMs: 5000,
}

/** A request of ours and how its answer is read, in the form in which kafkajs's connections send them. */
export interface Exchange<Answer> {
  readonly request: {
    readonly apiKey: number
    readonly apiVersion: number
    readonly apiName: string
    readonly encode: () => Promise<EncodedRequest>
  }
  readonly response: {
    readonly decode: (payload: Buffer) => Promise<Answer & Throttled>
    readonly parse: (answer: Answer) => Promise<Answer>
  }
  readonly requestTimeout?: number
  readonly logResponseError?: boolean
}

/** What kafkajs asks of an encoder when it puts the request's head in front of it. */
export interface EncodedRequest {
  readonly buf: Buffer
  readonly buffer: Buffer
}

export interface Throttled {
  readonly clientSideThrottleTime: number
}

interface Connection {
  send<Answer>(exchange: Exchange<Answer>): Promise<Answer>
  rejectRequests(error: Error): void
  disconnect(): Promise<unknown>
  socket?: net.Socket
}

interface ConnectionPool {
  readonly host: string
  readonly port: number
  readonly pool: readonly Connection[]
  getConnection(index: number): Promise<Connection>
  destroy(): Promise<void>
}

/** A broker as kafkajs models it: two connections and the requests that it knows. Its public types leave out most of them. */
export interface Broker {
  nodeId: number | null
  readonly versions: Readonly<Record<number, { readonly minVersion: number; readonly maxVersion: number }>>
  readonly connectionPool: ConnectionPool
  isConnected(): boolean
  connect(): Promise<void>
  disconnect(): Promise<void>
  lookupRequest(apiKey: number, definitions: unknown): (request: object) => Exchange<unknown>
  findGroupCoordinator(request: {
    groupId: string
    coordinatorType: number
  }): Promise<{ coordinator: { nodeId: number; host: string; port: number } }>
  joinGroup(
    request: object,
  ): Promise<{ generationId: number; leaderId: string; memberId: string; members: readonly { memberId: string; memberMetadata: Buffer }[] }>
  syncGroup(request: object): Promise<{ memberAssignment: Buffer }>
  heartbeat(request: { groupId: string; groupGenerationId: number; memberId: string }): Promise<unknown>
  leaveGroup(request: { groupId: string; memberId: string }): Promise<unknown>
  offsetCommit(request: object): Promise<unknown>
  offsetFetch(request: object): Promise<{
    responses: readonly { topic: string; partitions: readonly { partition: number; offset: string; metadata: string | null }[] }[]
  }>
  describeGroups(request: {
    groupIds: readonly string[]
  }): Promise<{ groups: readonly { groupId: string; state: string; members: readonly { memberId: string; clientId: string }[] }[] }>
  createTopics(request: object): Promise<unknown>
  describeConfigs(request: object): Promise<{
    resources: readonly {
      resourceName: string
      configEntries: readonly { configName: string; configValue: string | null; isDefault: boolean; configSource?: number }[]
    }[]
  }>
  listOffsets(
    request: object,
  ): Promise<{ responses: readonly { topic: string; partitions: readonly { partition: number; offset: string }[] }[] }>
}

interface Cluster {
  readonly brokerPool: {
    readonly versions: unknown
    readonly seedBroker?: Broker
    createBroker(options: object): Broker
    readonly connectionPoolBuilder: { build(target: { host: string; port: number; rack: string | null }): Promise<ConnectionPool> }
  }
  readonly rootLogger: unknown
  connect(): Promise<void>
}

interface MetadataAnswer {
  readonly brokers: readonly { readonly nodeId: number; readonly host: string; readonly port: number; readonly rack: string | null }[]
  readonly controllerId: number
  readonly topicMetadata: readonly {
    readonly topicErrorCode: number
    readonly topic: string
    readonly isInternal: boolean
    readonly partitionMetadata: readonly { readonly partitionId: number; readonly leader: number; readonly replicas: readonly number[] }[]
  }[]
}

const metadataApiKey = 3
const metadataDefinitions: unknown = createRequire(import.meta.url)("kafkajs/src/protocol/requests/metadata")
const metadataMaxAgeMs = 60_000
const connectTimeoutMs = 2000
const openTimeoutMs = 8000

/**
 * The connections that one purpose has to the brokers: two to each, so that what waits long on one does not hold up the other.
 * One object lives as long as its connections do; after a failure its owner throws it away and opens a new one, because a kafkajs
 * client that lost a connection is not to be trusted again. The cluster's metadata are kept here and not by kafkajs: there, one
 * topic that was deleted makes every other topic unknown.
 */
export class Connections {
  readonly #cluster: Cluster
  readonly #brokers: readonly string[]
  readonly #nodes = new Map<number, Broker>()
  readonly #leaders = new Map<string, readonly number[]>()
  #controller = -1
  #refreshing: Promise<void> | undefined
  #refreshedAt = Number.NEGATIVE_INFINITY
  #closed = false

  get closed(): boolean {
    return this.#closed
  }

  private constructor(cluster: Cluster, brokers: readonly string[]) {
    this.#cluster = cluster
    this.#brokers = brokers
  }

  /** Connects to any broker within a few seconds, or says that none of them answers. */
  static async open(options: KafkaOptions): Promise<Connections> {
    assertPatched()
    const connections = new Connections(createCluster(options), options.brokers)
    let deadline: NodeJS.Timeout | undefined
    try {
      // kafkajs waits for a broker that accepts and then says nothing several times over.
      const late = new Promise<never>((_, reject) => {
        deadline = setTimeout(() => reject(new Error(`no answer within ${openTimeoutMs / 1000} s`)), openTimeoutMs)
      })
      await Promise.race([late, connections.#connect()])
    } catch (error) {
      connections.close()
      throw unavailable(options.brokers, error)
    } finally {
      clearTimeout(deadline)
    }
    return connections
  }

  async #connect(): Promise<void> {
    await this.#cluster.connect()
    await this.refresh([])
  }

  /** How many partitions a topic has; undefined where nobody knows the topic. */
  partitionCount(topic: string): number | undefined {
    return this.#leaders.get(topic)?.length
  }

  /** The node that leads a partition, or -1 while nobody does. */
  leader(topic: string, partition: number): number {
    return this.#leaders.get(topic)?.[partition] ?? -1
  }

  nodeIds(): readonly number[] {
    return [...this.#nodes.keys()]
  }

  knows(topics: Iterable<string>): boolean {
    for (const topic of topics) if (!this.#leaders.has(topic)) return false
    return performance.now() - this.#refreshedAt < metadataMaxAgeMs
  }

  /** Asks for the metadata of these topics and of those known already. One that does not exist is no error: it stays unknown. */
  async refresh(topics: readonly string[]): Promise<void> {
    // A refresh under way may not cover these topics, and what it asked may be older than the reason to ask again.
    while (this.#refreshing !== undefined) await this.#refreshing.catch(() => undefined)
    this.#refreshing = this.#refresh(new Set([...this.#leaders.keys(), ...topics])).finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  async #refresh(topics: ReadonlySet<string>): Promise<void> {
    const wanted = [...topics]
    // An empty list would ask for every topic of the cluster; a name that cannot be a topic's asks for none.
    const answer = await this.metadata(wanted.length > 0 ? wanted : ["."])
    for (const found of answer.topicMetadata) {
      if (found.topicErrorCode === 3 || found.topicErrorCode === 17) this.#leaders.delete(found.topic)
      if (found.topicErrorCode !== 0) continue
      const leaders: number[] = []
      for (const { partitionId, leader } of found.partitionMetadata) leaders[partitionId] = leader
      this.#leaders.set(found.topic, leaders)
    }
    this.#refreshedAt = performance.now()
  }

  /** The cluster's metadata as they are; of all topics where none are named. */
  async metadata(topics: readonly string[]): Promise<MetadataAnswer> {
    const broker = await this.#anyBroker()
    const { request, response } = broker.lookupRequest(
      metadataApiKey,
      metadataDefinitions,
    )({ topics, allowAutoTopicCreation: false }) as Exchange<MetadataAnswer>
    // kafkajs's own `parse` throws away the whole answer when one topic or partition of it has an error.
    const connection = await broker.connectionPool.getConnection(0)
    const answer = await connection.send<MetadataAnswer>({ request, response: { decode: response.decode, parse: async (data) => data } })
    this.#controller = answer.controllerId
    for (const { nodeId, host, port, rack } of answer.brokers) {
      const known = this.#nodes.get(nodeId)
      if (known !== undefined && known.connectionPool.host === host && known.connectionPool.port === port) continue
      if (known !== undefined) discard(known)
      const { brokerPool, rootLogger } = this.#cluster
      const seed = brokerPool.seedBroker
      if (seed !== undefined && seed.connectionPool.host === host && seed.connectionPool.port === port) {
        seed.nodeId = nodeId
        this.#nodes.set(nodeId, seed)
      } else {
        const connectionPool = await brokerPool.connectionPoolBuilder.build({ host, port, rack })
        this.#nodes.set(nodeId, brokerPool.createBroker({ logger: rootLogger, versions: brokerPool.versions, connectionPool, nodeId }))
      }
    }
    return answer
  }

  /** A connected broker by its node id. One that cannot be reached is forgotten until the metadata name it again. */
  async node(nodeId: number): Promise<Broker> {
    if (this.#closed) throw new LogUnavailableError("The connections are closed.")
    const broker = this.#nodes.get(nodeId)
    if (broker === undefined) throw new NodeUnreachableError(`Nobody knows a broker ${nodeId} at the moment.`)
    if (broker.isConnected()) return broker
    try {
      await broker.connect()
      return broker
    } catch (error) {
      if (this.#nodes.get(nodeId) === broker) this.#nodes.delete(nodeId)
      discard(broker)
      throw new NodeUnreachableError(`Broker ${nodeId} cannot be reached: ${asError(error).message}.`, { cause: error })
    }
  }

  async controller(): Promise<Broker> {
    return this.node(this.#controller)
  }

  async coordinator(groupId: string): Promise<Broker> {
    const asked = await this.#anyBroker()
    const { coordinator } = await asked.findGroupCoordinator({ groupId, coordinatorType: 0 })
    if (!this.#nodes.has(coordinator.nodeId)) await this.refresh([])
    return this.node(coordinator.nodeId)
  }

  /** Sends a request of our own making on one of the node's two connections. */
  async exchange<Answer>(nodeId: number, index: 0 | 1, exchange: Exchange<Answer>): Promise<Answer> {
    const broker = await this.node(nodeId)
    const { apiKey, apiVersion, apiName } = exchange.request
    const range = broker.versions[apiKey]
    if (range === undefined || range.minVersion > apiVersion || range.maxVersion < apiVersion) {
      throw new LogUnavailableError(`The broker does not speak ${apiName} version ${apiVersion}. Reins needs Apache Kafka 2.3 or newer.`)
    }
    const connection = await broker.connectionPool.getConnection(index)
    return connection.send(exchange)
  }

  /** Ends every connection now. What waits for an answer is rejected; what a broker does with it is unknown. */
  close(): void {
    this.#closed = true
    const { seedBroker } = this.#cluster.brokerPool
    for (const broker of new Set([...this.#nodes.values(), ...(seedBroker === undefined ? [] : [seedBroker])])) discard(broker)
  }

  async #anyBroker(): Promise<Broker> {
    if (this.#closed) throw new LogUnavailableError("The connections are closed.")
    const seed = this.#cluster.brokerPool.seedBroker
    const candidates = [...this.#nodes.values(), ...(seed === undefined ? [] : [seed])].sort(
      (a, b) => Number(b.isConnected()) - Number(a.isConnected()),
    )
    let last: unknown
    for (const broker of candidates) {
      try {
        if (!broker.isConnected()) await broker.connect()
        return broker
      } catch (error) {
        last = error
      }
    }
    throw unavailable(this.#brokers, last)
  }
}

/** One broker of several cannot be reached, so nothing was sent to it. The connections to the others are none the worse for it. */
export class NodeUnreachableError extends LogUnavailableError {
  readonly type = "NODE_UNREACHABLE"
}

function discard(broker: Broker): void {
  for (const connection of broker.connectionPool.pool) {
    connection.rejectRequests(new LogUnavailableError("The connection was closed before the answer came."))
    void connection.disconnect().catch(() => undefined)
    connection.socket?.destroySoon()
  }
}

function createCluster(options: KafkaOptions): Cluster {
  const { socketFactory = openSocket } = options
  const kafka = new kafkajs.Kafka({
    clientId: options.instance,
    brokers: [...options.brokers],
    ...(options.ssl === undefined ? {} : { ssl: options.ssl }),
    ...(options.sasl === undefined ? {} : { sasl: options.sasl as KafkaJs.SASLOptions }),
    connectionTimeout: connectTimeoutMs,
    authenticationTimeout: connectTimeoutMs,
    requestTimeout: options.requestTimeoutMs ?? defaults.requestTimeoutMs,
    enforceRequestTimeout: true,
    logLevel: kafkajs.logLevel.NOTHING,
    socketFactory,
    // Enough to go once around a list of three brokers; whoever needs longer asks again.
    retry: { initialRetryTime: 100, factor: 0.2, multiplier: 2, retries: 2 },
  })
  // kafkajs hands its cluster to partition assigners and to nobody else.
  let cluster: Cluster | undefined
  kafka.consumer({
    groupId: "reins-never-joined",
    allowAutoTopicCreation: false,
    partitionAssigners: [
      (given) => {
        cluster = given.cluster as unknown as Cluster
        return { name: "none", version: 0, assign: async () => [], protocol: () => ({ name: "none", metadata: Buffer.alloc(0) }) }
      },
    ],
  })
  if (cluster === undefined) throw new Error("kafkajs gave its cluster to no assigner.")
  return cluster
}

/** Like kafkajs's own, but without Nagle's delay: every request here is one write that somebody waits for. */
const openSocket: SocketFactory = ({ host, port, ssl, onConnect }) => {
  const socket = ssl
    ? tls.connect({ host, port, ...(net.isIP(host) === 0 ? { servername: host } : {}), ...ssl }, onConnect)
    : net.connect({ host, port }, onConnect)
  socket.setNoDelay(true)
  socket.setKeepAlive(true, 60_000)
  return socket
}

/** The type of an error that leaves the connections as they are, mostly what a broker answered; undefined where something was sent and no answer came. */
export function brokerErrorType(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null) return undefined
  const { name, type } = error as { name?: unknown; type?: unknown }
  if (name !== "KafkaJSConnectionError" && typeof type === "string") return type
  return undefined
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}

export function unavailable(brokers: readonly string[], error: unknown): Error {
  if (error instanceof LogUnavailableError) return error
  const said = asError(error).message
  const what =
    brokerErrorType(error) === "SASL_AUTHENTICATION_FAILED" || asError(error).name === "KafkaJSSASLAuthenticationError"
      ? `Kafka at ${brokers.join(", ")} refused the credentials: ${said}. Check KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD.`
      : `Kafka cannot be reached at ${brokers.join(", ")}: ${said}. Start it (\`npm run kafka\` runs one on this machine) or set KAFKA_BROKERS.`
  return new LogUnavailableError(what, { cause: error })
}

/** Connections that are opened when they are needed and thrown away when they fail. */
export class Link {
  readonly #options: KafkaOptions
  #opening: Promise<Connections> | undefined
  #connections: Connections | undefined
  #closed = false

  constructor(options: KafkaOptions) {
    this.#options = options
  }

  get closed(): boolean {
    return this.#closed
  }

  async open(): Promise<Connections> {
    if (this.#closed) throw new LogUnavailableError("The log is closed.")
    if (this.#connections !== undefined) return this.#connections
    this.#opening ??= Connections.open(this.#options).finally(() => {
      this.#opening = undefined
    })
    const connections = await this.#opening
    if (this.#closed) {
      connections.close()
      throw new LogUnavailableError("The log is closed.")
    }
    // Whoever waited for the same opening has set it already, and may have dropped it since.
    if (!connections.closed) this.#connections = connections
    return connections
  }

  /** Runs something on the connections. What a broker answered leaves them standing; any other failure ends them. */
  async use<T>(run: (connections: Connections) => Promise<T>): Promise<T> {
    const connections = await this.open()
    try {
      return await run(connections)
    } catch (error) {
      if (brokerErrorType(error) === undefined && !(error instanceof TopicMismatchError)) this.drop(connections)
      throw error
    }
  }

  /** Throws these connections away, if they are still the ones in use. */
  drop(connections: Connections): void {
    connections.close()
    if (this.#connections === connections) this.#connections = undefined
  }

  close(): void {
    this.#closed = true
    this.#connections?.close()
    this.#connections = undefined
  }
}
