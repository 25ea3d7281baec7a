import type { SessionEvent } from "@reins/events"
import type { BlobFault, Log, LogRecord } from "@reins/log"
import { type Codec, decodeLearning } from "@reins/log/codec"
import { absent, evolve, forgottenPart, isStarted, recalled, type Session, type Utterance } from "@reins/session"
import { unreadRecord } from "./unread.ts"

/** Records that stand no further apart than this are read in one go. */
const gapMax = 500

/** Why what was said cannot be told: it is not in the log any more, or not in the blob store. */
export interface Unrecalled {
  readonly code: "content_missing" | BlobFault
  readonly message: string
}

const gone: Unrecalled = {
  code: "content_missing",
  message: "What was said in it is not in the log any more: records that its conversation consists of are missing.",
}

/**
 * What was said in a session whose conversation was forgotten: the records that it follows from are folded again, up to the utterance with
 * the digest that stood for it.
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
): Promise<((conversation: Utterance) => Utterance) | Unrecalled> {
  const forgotten = isStarted(session) ? forgottenPart(session.conversation) : null
  if (forgotten === null) return (conversation) => conversation
  const wanted = new Set(offsets)
  let state: Session = absent
  for (const [from, to] of stretches(offsets)) {
    for await (const records of log.replay(topic, partition, from, to + 1)) {
      for (const record of records) {
        if (!wanted.has(record.offset)) continue
        const said = await read(codec, record)
        if ("code" in said) return said
        state = evolve(state, said.event, record).session
        const past = isStarted(state) ? state.conversation : null
        if (past?.digest === forgotten.digest) return (conversation) => recalled(conversation, past)
      }
    }
  }
  return gone
}

async function read(codec: Codec, record: LogRecord): Promise<{ readonly event: SessionEvent } | Unrecalled> {
  if (record.value === null) return gone
  const read = await decodeLearning(codec, "sessions", record)
  if (read.ok) return { event: read.said as unknown as SessionEvent }
  const unread = unreadRecord(record)
  return unread === null ? gone : { code: unread.fault, message: unread.message }
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
