import { type SessionEvent, topicNames } from "@reins/events"
import { bodyVersion, conversationMessages, requestBody, type Session, sha256Hex, summarize } from "@reins/session"
import { CliError } from "./fail.ts"
import { iso, notFound, readerOf, reading } from "./open.ts"

interface CheckedRequest {
  readonly offset: number
  readonly turn: number
  readonly attempt: number
  readonly recorded: string
  readonly rebuilt: string
  readonly same: boolean
  readonly bytes: number
}

/**
 * Rebuilds a session and every model request of it from the log; nothing is executed. With `check`, the SHA-256 of each rebuilt body is
 * compared with the one recorded before the call, and a difference is exit code 6.
 */
export async function replay(
  sessionId: string,
  options: { readonly to?: string; readonly check?: boolean; readonly json?: boolean },
): Promise<void> {
  const to = options.to === undefined ? undefined : Number(options.to)
  if (to !== undefined && (!Number.isInteger(to) || to < 0))
    throw new CliError(2, `--to takes an offset of the session log; ${options.to} is none.`)
  await reading(async (opened, config) => {
    const reader = await readerOf(opened, config, sessionId)
    const requests: CheckedRequest[] = []
    let last: { body: string } | undefined
    await reader.read({
      tools: false,
      ...(to === undefined ? {} : { to }),
      each: (record, session) => {
        if (record.type !== "model.requested" || record.verdict !== "accepted" || record.topic !== topicNames(config.prefix).sessions)
          return
        const body = rebuilt(session)
        last = { body }
        requests.push(checked(record.value as unknown as SessionEvent, record.offset, body))
      },
    })
    const summary = summarize(reader.session, iso)
    if (summary === null) throw notFound(sessionId)
    const wrong = requests.filter((request) => !request.same)
    if (options.json === true) {
      const conversation = reader.session.phase === "absent" ? [] : conversationMessages(reader.session.conversation)
      process.stdout.write(`${JSON.stringify({ session: summary, requests, conversation }, null, 2)}\n`)
    } else if (options.check === true) {
      for (const { offset, turn, attempt, recorded, same, bytes } of requests) {
        process.stdout.write(
          `${same ? "same" : "DIFFERS"}  turn ${turn}${attempt > 1 ? `, attempt ${attempt}` : ""}  offset ${offset}  sha256 ${recorded}  ${bytes} bytes\n`,
        )
      }
      process.stdout.write(`${requests.length} requests rebuilt, ${wrong.length} differ. State digest ${summary.digest}\n`)
    } else {
      process.stdout.write(`${JSON.stringify(last === undefined ? {} : JSON.parse(last.body), null, 2)}\n`)
      process.stderr.write(`That is the last of ${requests.length} model requests, rebuilt from the log. State digest ${summary.digest}\n`)
    }
    if (options.check === true && wrong.length > 0) {
      throw new CliError(
        6,
        `${wrong.length} of ${requests.length} requests differ from what was recorded: the log was changed, or this version builds requests in another way (bodyVersion ${bodyVersion}).`,
      )
    }
  })
}

function rebuilt(session: Session): string {
  if (session.phase !== "awaiting-model") throw new Error("An accepted model.requested leaves the session awaiting the model.")
  return requestBody(session.agent, session.conversation)
}

function checked(event: SessionEvent, offset: number, body: string): CheckedRequest {
  if (event.type !== "model.requested") throw new Error(`${event.type} is no request.`)
  const hash = sha256Hex(body)
  return {
    offset,
    turn: event.turn,
    attempt: event.attempt,
    recorded: event.bodyHash,
    rebuilt: hash,
    same: hash === event.bodyHash,
    bytes: Buffer.byteLength(body),
  }
}
