import { type LogRecord, LogUnavailableError, TopicMismatchError } from "../log.ts"
import { ask, NotYetError } from "./ask.ts"
import type { Link } from "./client.ts"
import { decodeRecords, type Fetched, fetchExchange } from "./fetch.ts"
import { listOffset } from "./offsets.ts"

/** What stands of one partition in [from, to), read without being anybody's member. */
export async function* replay(
  link: Link,
  place: string,
  topic: string,
  partition: number,
  from: number,
  to: number | undefined,
): AsyncGenerator<readonly LogRecord[]> {
  const [start, high] = await ask(link, place, async (connections) => {
    await connections.refresh([topic])
    const count = connections.partitionCount(topic)
    if (count === undefined) throw new TopicMismatchError(`There is no topic ${topic} in ${place}. Create it with \`reins topics apply\`.`)
    if (partition < 0 || partition >= count)
      throw new TopicMismatchError(`The topic ${topic} in ${place} has ${count} partitions; there is no partition ${partition}.`)
    return Promise.all([listOffset(connections, topic, partition, "start"), listOffset(connections, topic, partition, "end")])
  })
  const end = Math.min(to ?? high, high)
  let at = Math.max(from, start)
  let answer = at < end ? fetchOne(link, place, topic, partition, at) : undefined
  while (answer !== undefined) {
    const fetched = await answer
    if (fetched.errorCode === 1) {
      // What we were about to read has been deleted in the meantime.
      const now = await ask(link, place, (connections) => listOffset(connections, topic, partition, "start"))
      if (now <= at) throw new LogUnavailableError(`${topic}[${partition}] in ${place} cannot be read at offset ${at}.`)
      at = now
      answer = at < end ? fetchOne(link, place, topic, partition, at) : undefined
      continue
    }
    const { records, next } = decodeRecords(fetched, at, end)
    // An empty answer of the only partition asked for is a hole up to its end, or an open transaction that hides the rest.
    at = fetched.batches.length === 0 ? end : next
    // The next stretch is under way while this one is being worked on.
    answer = at < end ? fetchOne(link, place, topic, partition, at) : undefined
    answer?.catch(() => undefined)
    if (records.length > 0) yield records
  }
}

function fetchOne(link: Link, place: string, topic: string, partition: number, offset: number): Promise<Fetched> {
  return ask(link, place, async (connections) => {
    if (!connections.knows([topic])) await connections.refresh([topic])
    const node = connections.leader(topic, partition)
    if (node < 0) {
      await connections.refresh([topic])
      throw new NotYetError(`${topic}[${partition}] has no leader`)
    }
    const { fetched } = await connections.exchange(node, 1, fetchExchange([{ topic, partition, offset }], 0))
    const [one] = fetched
    if (one === undefined) throw new NotYetError("the broker gave no answer for the partition")
    if (one.errorCode === 29) throw new LogUnavailableError(`Reading ${topic} is not allowed. Grant READ on the topic to this principal.`)
    if (one.errorCode !== 0 && one.errorCode !== 1) {
      await connections.refresh([topic])
      throw new NotYetError(`the broker answered with error ${one.errorCode}`)
    }
    return one
  })
}
