import { type Bounds, LogUnavailableError, type TopicDescription, TopicMismatchError, type TopicSettings } from "../log.ts"
import { verifyTopic } from "../topic-settings.ts"
import { NotYetError } from "./ask.ts"
import type { Connections, Link } from "./client.ts"
import { listOffsets } from "./offsets.ts"

const replicationFactorMax = 3
const createTimeoutMs = 10_000
/** In Kafka's protocol: the resource is a topic; the setting was made on the topic itself. */
const topicResource = 2
const topicSource = 1

/** One past the last record that every replica in sync has, and the first that still stands, for every partition. */
export async function bounds(connections: Connections, topic: string, place: string): Promise<readonly Bounds[]> {
  await connections.refresh([topic])
  const count = connections.partitionCount(topic)
  if (count === undefined) throw new TopicMismatchError(`There is no topic ${topic} in ${place}. Create it with \`reins topics apply\`.`)
  const partitions = Array.from({ length: count }, (_, partition) => partition)
  // The end first: what is deleted in between must not make a start that lies behind the end.
  const ends = await listOffsets(connections, topic, partitions, "end")
  const starts = await listOffsets(connections, topic, partitions, "start")
  return partitions.map((partition) => ({
    partition,
    start: starts[partition] as number,
    end: Math.max(starts[partition] as number, ends[partition] as number),
  }))
}

/**
 * The instances that the coordinator counts as members. A group that it does not know, or that is empty, is no answer: after a
 * restart the coordinator says so of groups that live. The same holds for an answer about our own group in which we are missing.
 */
export async function members(link: Link, group: string, ownInstances: readonly string[]): Promise<ReadonlySet<string> | null> {
  try {
    return await link.use(async (connections) => {
      const coordinator = await connections.coordinator(group)
      const { groups } = await coordinator.describeGroups({ groupIds: [group] })
      const found = groups.find(({ groupId }) => groupId === group)
      if (found === undefined || found.state === "Dead" || found.state === "Empty" || found.members.length === 0) return null
      const instances = new Set(found.members.map(({ clientId }) => clientId))
      return ownInstances.every((instance) => instances.has(instance)) ? instances : null
    })
  } catch {
    return null
  }
}

/** Creates what is missing and returns it. What it creates is not usable before `settleTopics` has seen it. */
export async function createTopics(connections: Connections, topics: readonly TopicSettings[], place: string): Promise<readonly string[]> {
  const standing = await describe(
    connections,
    topics.map(({ name }) => name),
  )
  const missing = topics.filter(({ name }) => !standing.has(name))
  // Verified first: what cannot be used as a whole is not half created.
  for (const wanted of topics) if (standing.has(wanted.name)) verifyTopic(wanted, standing.get(wanted.name), place)
  if (missing.length === 0) return []
  const brokers = (await connections.metadata(["."])).brokers.length
  const created = new Set(missing.map(({ name }) => name))
  const controller = await connections.controller()
  try {
    await controller.createTopics({
      timeout: createTimeoutMs,
      topics: missing.map(({ name, partitions, cleanup, config }) => ({
        topic: name,
        numPartitions: partitions,
        replicationFactor: Math.min(replicationFactorMax, brokers),
        configEntries: Object.entries({ ...replicaSettings(brokers), ...config, "cleanup.policy": cleanup }).map(([key, value]) => ({
          name: key,
          value,
        })),
      })),
    })
  } catch (error) {
    // kafkajs gathers the refusals of single topics in one error.
    const refused = (error as { errors?: readonly { topic: string; type: string; message: string }[] }).errors
    if (refused === undefined) throw error
    for (const { topic, type, message } of refused) {
      if (type !== "TOPIC_ALREADY_EXISTS")
        throw new TopicRefusedError(`The topic ${topic} could not be created in ${place}: ${message}.`, { cause: error })
      // Somebody else was faster; whoever verifies says whether it is what we need.
      created.delete(topic)
    }
  }
  return [...created]
}

/** A topic that the cluster does not want to create, for a reason that will still hold a moment later. */
class TopicRefusedError extends LogUnavailableError {
  override readonly retryable: boolean = false
  readonly type = "TOPIC_REFUSED"
}

/** Whether every partition of these topics has a leader that knows of it; until then the first append would be a gamble. */
export async function settleTopics(connections: Connections, topics: readonly TopicSettings[], place: string): Promise<void> {
  const names = topics.map(({ name }) => name)
  await connections.refresh(names)
  const standing = await describe(connections, names)
  for (const wanted of topics) {
    const { name, partitions } = wanted
    if (!standing.has(name) || connections.partitionCount(name) === undefined)
      throw new NotYetError(`${name} did not come up after it was created`)
    verifyTopic(wanted, standing.get(name), place)
    await listOffsets(
      connections,
      name,
      Array.from({ length: partitions }, (_, partition) => partition),
      "end",
    )
  }
}

/** Three copies of which two must have a record before it counts as written: one broker may fail. A smaller cluster gives what it has. */
function replicaSettings(brokers: number): Readonly<Record<string, string>> {
  return brokers >= replicationFactorMax ? { "min.insync.replicas": "2" } : {}
}

export async function verifyTopics(connections: Connections, topics: readonly TopicSettings[], place: string): Promise<void> {
  const standing = await describe(
    connections,
    topics.map(({ name }) => name),
  )
  for (const wanted of topics) verifyTopic(wanted, standing.get(wanted.name), place)
}

export async function describeTopics(connections: Connections): Promise<readonly TopicDescription[]> {
  return [...(await describe(connections, [])).values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** What stands of these topics, or of all that are not Kafka's own. */
async function describe(connections: Connections, names: readonly string[]): Promise<Map<string, TopicDescription>> {
  const { topicMetadata, brokers } = await connections.metadata(names)
  const counts = new Map<string, number>()
  for (const { topicErrorCode, topic, isInternal, partitionMetadata } of topicMetadata) {
    if (topicErrorCode === 29)
      throw new LogUnavailableError(`Looking at the topic ${topic} is not allowed. Grant DESCRIBE on it to this principal.`)
    if (topicErrorCode === 0 && !isInternal) counts.set(topic, partitionMetadata.length)
  }
  const found = new Map<string, TopicDescription>()
  const [first] = brokers
  if (counts.size === 0 || first === undefined) return found
  const broker = await connections.node(first.nodeId)
  const { resources } = await broker.describeConfigs({
    includeSynonyms: false,
    resources: [...counts.keys()].map((name) => ({ type: topicResource, name })),
  })
  for (const { resourceName, configEntries } of resources) {
    const config: Record<string, string> = {}
    let cleanup = "delete"
    for (const { configName, configValue, configSource } of configEntries) {
      if (configName === "cleanup.policy") cleanup = configValue ?? cleanup
      else if (configSource === topicSource && configValue !== null) config[configName] = configValue
    }
    found.set(resourceName, { name: resourceName, partitions: counts.get(resourceName) as number, cleanup, config })
  }
  return found
}
