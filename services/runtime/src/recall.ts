import type { SessionEvent } from "@reins/events"
import type { Log, LogRecord } from "@reins/log"
import { type Codec, decodeRecord } from "@reins/log/codec"
import { absent, evolve, forgottenPart, isStarted, recalled, type Session, type Utterance } from "@reins/session"

/** Records that stand no further apart than this are read in one go. */
const gapMax = 500

/**
 * What was said in a session whose conversation was forgotten: the records that it follows from are folded again, up to the utterance with
 * the digest that stood for it. Null where the log does not give it any more.
 *
 * @param offsets Of the records that the session follows from, in order.
 */
export async function recallConversation(
  log: Log,
  codec: Codec,
  topic: string,
  partition: number,
  session: Session,
  offsets: readonly number[],
): Promise<((conversation: Utterance) => Utterance) | null> {
  const forgotten = isStarted(session) ? forgottenPart(session.conversation) : null
  if (forgotten === null) return (conversation) => conversation
  const wanted = new Set(offsets)
  let state: Session = absent
  for (const [from, to] of stretches(offsets)) {
    for await (const records of log.replay(topic, partition, from, to + 1)) {
      for (const record of records) {
        if (!wanted.has(record.offset)) continue
        const event = await read(codec, record)
        if (event === null) return null
        state = evolve(state, event, record).session
        const past = isStarted(state) ? state.conversation : null
        if (past?.digest === forgotten.digest) return (conversation) => recalled(conversation, past)
      }
    }
  }
  return null
}

async function read(codec: Codec, record: LogRecord): Promise<SessionEvent | null> {
  if (record.value === null) return null
  let decoded = decodeRecord(codec, "sessions", record)
  if (!decoded.ok && "unknownSchema" in decoded) {
    await codec.learn(decoded.unknownSchema)
    decoded = decodeRecord(codec, "sessions", record)
  }
  return decoded.ok ? (decoded.said as unknown as SessionEvent) : null
}

function stretches(offsets: readonly number[]): readonly (readonly [from: number, to: number])[] {
  const found: [number, number][] = []
  for (const offset of offsets) {
    const last = found.at(-1)
    if (last !== undefined && offset - last[1] <= gapMax) last[1] = offset
    else found.push([offset, offset])
  }
  return found
}
