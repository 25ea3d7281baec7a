import { type SessionEvent, type SessionEventOf, topicNames } from "@reins/events"
import { bodyVersion, conversationMessages, isStarted, openRequestBody, type Session, sha256Hex, summarize } from "@reins/session"
import { CliError } from "./fail.ts"
import { type FromSnapshot, fromSnapshot, remedy } from "./from-snapshot.ts"
import { iso, notFound, readerOf, reading } from "./open.ts"

interface CheckedRequest {
  readonly offset: number
  readonly turn: number
  readonly attempt: number
  readonly recorded: string
  /** Null where the fold does not accept the request, so that there is nothing to rebuild it from. */
  readonly rebuilt: string | null
  readonly same: boolean
  readonly bytes: number
}

/**
 * Rebuilds a session and every model request of it from the log; nothing is executed. With `check`, the SHA-256 of each rebuilt body is
 * compared with the one recorded before the call, and a difference is exit code 6. A request whose answer stands in the log was made, so it
 * was accepted then: where the fold does not accept it now, something before it was changed, which is a difference too. With `fromSnapshot`, what the
 * newest snapshot and the log behind it come to is compared with what the whole log comes to.
 */
export async function replay(
  sessionId: string,
  options: { readonly to?: string; readonly check?: boolean; readonly fromSnapshot?: boolean; readonly json?: boolean },
): Promise<void> {
  const to = options.to === undefined ? undefined : Number(options.to)
  if (to !== undefined && (!Number.isInteger(to) || to < 0))
    throw new CliError(2, `--to takes an offset of the session log; ${options.to} is none.`)
  if (options.fromSnapshot === true && (options.check !== true || to !== undefined))
    throw new CliError(2, "--from-snapshot compares the snapshot with the whole log: use it with --check and without --to.")
  await reading(async (opened, config) => {
    const reader = await readerOf(opened, config, sessionId)
    const requests: CheckedRequest[] = []
    const refused = new Map<string, CheckedRequest>()
    const unread: string[] = []
    let last: { body: string } | undefined
    await reader.read({
      tools: false,
      ...(to === undefined ? {} : { to }),
      each: (record, session) => {
        if (record.problem !== undefined) unread.push(`offset ${record.offset}: ${record.problem}`)
        if (record.value === null || record.topic !== topicNames(config.prefix).sessions) return
        const event = record.value as unknown as SessionEvent
        if (event.type === "model.responded") {
          const request = refused.get(event.claim)
          if (request !== undefined) requests.push(request)
        }
        if (event.type !== "model.requested") return
        if (record.verdict !== "accepted") {
          refused.set(event.eventId, checked(event, record.offset, null))
          return
        }
        const body = rebuilt(session)
        last = { body }
        requests.push(checked(event, record.offset, body))
      },
    })
    const summary = summarize(reader.session, iso)
    for (const one of unread) process.stderr.write(`${one}\n`)
    if (summary === null) throw unread.length > 0 ? new CliError(6, `${unread.length} records cannot be read.`) : notFound(sessionId)
    const wrong = requests.filter((request) => !request.same)
    const snapshot = options.fromSnapshot === true ? await fromSnapshot(opened, config.prefix, reader) : null
    if (options.json === true) {
      const conversation = isStarted(reader.session) ? conversationMessages(reader.session.conversation) : []
      process.stdout.write(
        `${JSON.stringify({ session: summary, requests, conversation, ...(snapshot === null ? {} : { snapshot }) }, null, 2)}\n`,
      )
    } else if (options.check === true) {
      for (const { offset, turn, attempt, recorded, rebuilt, same, bytes } of requests) {
        const place = `turn ${turn}${attempt > 1 ? `, attempt ${attempt}` : ""}  offset ${offset}  sha256 ${recorded}`
        process.stdout.write(
          `${same ? "same" : "DIFFERS"}  ${place}  ${rebuilt === null ? "does not stand on what the log says before it" : `${bytes} bytes`}\n`,
        )
      }
      process.stdout.write(`${requests.length} requests rebuilt, ${wrong.length} differ. State digest ${summary.digest}\n`)
      if (snapshot !== null) process.stdout.write(`${told(snapshot)}\n`)
    } else {
      process.stdout.write(`${JSON.stringify(last === undefined ? {} : JSON.parse(last.body), null, 2)}\n`)
      process.stderr.write(`That is the last of ${requests.length} model requests, rebuilt from the log. State digest ${summary.digest}\n`)
    }
    if (options.check === true && unread.length > 0)
      throw new CliError(6, `${unread.length} records of the session cannot be read, so what follows them cannot be checked.`)
    if (snapshot?.found === "state" && !snapshot.same)
      throw new CliError(
        6,
        `The snapshot that covers offset ${snapshot.offset} comes to another state than the log. ${remedy(opened.log.kind, topicNames(config.prefix).snapshots, config.dataDir)}`,
      )
    if (options.check === true && wrong.length > 0) {
      throw new CliError(
        6,
        `${wrong.length} of ${requests.length} requests differ from what was recorded: the log was changed, or this version builds requests in another way (bodyVersion ${bodyVersion}).`,
      )
    }
  })
}

function told(snapshot: FromSnapshot): string {
  switch (snapshot.found) {
    case "none":
      return "There is no snapshot of it yet: one is written a few seconds after a session has come to rest."
    case "other-version":
      return `Its snapshot is of another fold (${snapshot.foldVersion}), which nobody uses: the session is read from the log.`
    case "state":
      return `${snapshot.same ? "same" : "DIFFERS"}  from the snapshot that covers offset ${snapshot.offset}: state digest ${snapshot.digest}`
    default:
      return snapshot satisfies never
  }
}

function rebuilt(session: Session): string {
  if (session.phase !== "awaiting-model") throw new Error("An accepted model.requested leaves the session awaiting the model.")
  return openRequestBody(session)
}

function checked(event: SessionEventOf<"model.requested">, offset: number, body: string | null): CheckedRequest {
  const hash = body === null ? null : sha256Hex(body)
  return {
    offset,
    turn: event.turn,
    attempt: event.attempt,
    recorded: event.bodyHash,
    rebuilt: hash,
    same: hash === event.bodyHash,
    bytes: body === null ? 0 : Buffer.byteLength(body),
  }
}
