import { randomBytes, timingSafeEqual } from "node:crypto"
import { commands as vocabulary } from "@reins/events"
import { announceOwnerApi } from "@reins/log"
import { type Context, Hono } from "hono"
import { z } from "zod"
import { type BodyLimits, parseJson, readBody } from "../http/body.ts"
import type { Env } from "../http/context.ts"
import { ApiError, invalid, notFound } from "../http/errors.ts"
import { parse } from "../http/read.ts"
import type { Projection } from "../projection/projection.ts"
import { type Command, type Commands, refused } from "../sessions/commands.ts"

export interface CommandRoutesContext {
  readonly projection: Projection
  readonly commands: Commands
}

const types = vocabulary.map(({ type }) => type)
const id = z.string().regex(/^[\x21-\x7e]{1,200}$/, "must be 1 to 200 printable ASCII characters without spaces")
/** The rest of a command is for intake to judge, which has the last word on every way in. */
const command = z.looseObject({ type: z.enum(types as [string, ...string[]]), sessionId: id, commandId: id.optional() })

/** How the gateway's own command ids begin, which follow from requests: whoever else used them could pass for a request of another tenant. */
const ofRequests = "api_"

interface Answered {
  readonly command_id: string
  readonly session_id: string
  readonly event_id: string
}

/**
 * `POST /reins/v1/commands`: one command as it would stand on `commands`, answered with what it came to. Sent again under the same
 * `commandId`, it has no second effect.
 */
export function commandRoutes({ projection, commands }: CommandRoutesContext): Hono<Env> {
  const app = new Hono<Env>()
  app.post("/", async (c) => {
    const tenant = c.get("tenant")
    const given = commandOf(c.get("body"))
    if (given.commandId.startsWith(ofRequests))
      throw invalid(`commandId: ids that begin with ${ofRequests} are those of requests to the API.`)
    await projection.caughtUp()
    const isOurs = projection.session(tenant, given.sessionId) !== null
    if (given.type !== "session.start") {
      if (!isOurs) throw notFound("session")
      return c.json(await send(commands, given))
    }
    // Intake would say its refusal into the log of that session, which may be another tenant's.
    if (!isOurs && projection.isTaken(given.sessionId))
      throw refused({ code: "session_exists", message: `There is a session ${given.sessionId} already. Choose another sessionId.` })
    return c.json(await send(commands, { ...given, tenant }))
  })
  return app
}

export interface OwnerRoutesContext {
  readonly commands: Commands
  readonly body: BodyLimits
}

/**
 * `POST /reins/owner/commands`: the way in for processes beside the one that owns the log of a data folder, as the command line is. Who
 * has the token can read the folder, might own its log in our place, and so speaks for every tenant, as whoever may write to Kafka does.
 */
export class OwnerRoutes {
  readonly app: Hono<Env> = new Hono<Env>()
  readonly #token = randomBytes(32).toString("hex")

  constructor({ commands, body: limits }: OwnerRoutesContext) {
    this.app.post("/commands", async (c) => {
      if (!equal(bearerOf(c), this.#token)) throw new ApiError(401, "authentication_error", "This is for the owner of the data folder.")
      // A page of another site can send anything but this type without asking first.
      if (!/^application\/json *(;|$)/i.test(c.req.header("content-type") ?? "")) throw invalid("content-type: must be application/json.")
      return c.json(await send(commands, commandOf(parseJson(await readBody(c.env.incoming, limits), limits))))
    })
  }

  /** Says in the folder where they are. */
  announce(dir: string, url: string): void {
    announceOwnerApi(dir, { url, token: this.#token })
  }
}

function commandOf(body: unknown): Command {
  const given = parse(command, body)
  return { ...given, commandId: given.commandId ?? `cmd_${randomBytes(12).toString("hex")}` }
}

async function send(commands: Commands, sent: Command): Promise<Answered> {
  const [answer] = await commands.send([sent])
  if (answer === undefined || "code" in answer) throw refused(answer ?? { code: "unanswered", message: "Nobody has answered." })
  return { command_id: sent.commandId, session_id: sent.sessionId, event_id: answer.eventId }
}

function bearerOf(c: Context<Env>): string {
  return /^Bearer +(\S+)\s*$/i.exec(c.req.header("authorization") ?? "")?.[1] ?? ""
}

/** Takes as long for a token that is nearly right as for any other. */
function equal(given: string, token: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(token)]
  return a.length === b.length && timingSafeEqual(a, b)
}
