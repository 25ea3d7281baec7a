import type { AgentOptions } from "node:https"
import { Agent } from "node:https"
import { COMPATIBILITY, SchemaRegistry as ConfluentClient, SchemaType } from "@kafkajs/confluent-schema-registry"
import { LogUnavailableError } from "../log.ts"
import { SchemaIncompatibleError, type SchemaRegistry } from "./registry.ts"

export interface ConfluentOptions {
  /** Where the Confluent-compatible API lives, e.g. `http://127.0.0.1:8081/apis/ccompat/v7`. */
  readonly url: string
  readonly auth?: { readonly username: string; readonly password: string } | null
  /** For https with a certificate authority of one's own. */
  readonly tls?: AgentOptions
  readonly timeoutMs?: number
}

const timeoutMsDefault = 5000
const compatibility = COMPATIBILITY.FULL_TRANSITIVE
const attemptsMax = 4
/** What one node of the registry or another process has just written may not be seen everywhere yet. */
const pauseMs = 100

/** Opens nothing: the registry is asked when the first schema is registered or looked for. */
export function confluentRegistry(options: ConfluentOptions): SchemaRegistry {
  return new ConfluentRegistry(options)
}

/**
 * A schema registry with Confluent's API (Confluent's own, Apicurio, Karapace). Every subject keeps FULL_TRANSITIVE: whoever reads
 * with an old schema and whoever reads old records with a new one understand each other, whatever lies between.
 */
class ConfluentRegistry implements SchemaRegistry {
  readonly #client: ConfluentClient
  readonly #url: string
  readonly #schemas = new Map<number, Promise<string | null>>()

  constructor({ url, auth, tls, timeoutMs = timeoutMsDefault }: ConfluentOptions) {
    this.#url = url
    this.#client = new ConfluentClient({
      host: url.replace(/\/$/, ""),
      clientId: "reins",
      ...(auth ? { auth } : {}),
      ...(tls === undefined ? {} : { agent: new Agent({ keepAlive: true, ...tls }) }),
      retry: { retries: 2, initialRetryTimeInSecs: 0.1, maxRetryTimeInSecs: 1 },
      middlewares: [
        // Without it a registry that accepts and says nothing is waited for for ever.
        () => ({ prepareRequest: (next) => next().then((request) => request.enhance({ timeout: timeoutMs })) }),
      ],
    })
  }

  async register(subject: string, schema: string): Promise<number> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#keepTransitive(subject)
        const { id } = await this.#client.register({ type: SchemaType.AVRO, schema }, { subject, compatibility })
        return id
      } catch (error) {
        // Another process was faster with the same new subject; or nothing was answered, and a schema that was taken all the same gets
        // the same id when it is registered again. The client itself repeats neither.
        if (attempt === attemptsMax || !(isConfigRace(error) || isUnanswered(error))) throw this.#told(error, subject)
        await new Promise((resolve) => setTimeout(resolve, pauseMs))
      }
    }
  }

  /**
   * Sets the compatibility of a new subject before its first schema. The client does it after, and a process that dies between the two
   * leaves a subject that no other one accepts. Where another compatibility stands it is left, and the client refuses it.
   */
  async #keepTransitive(subject: string): Promise<void> {
    const { Subject } = this.#client["api"]
    try {
      await Subject.config({ subject })
    } catch (error) {
      if (statusOf(error) !== 404) throw error
      await Subject.updateConfig({ subject, body: { compatibility } })
    }
  }

  schema(id: number): Promise<string | null> {
    const known = this.#schemas.get(id)
    if (known !== undefined) return known
    const asked = this.#ask(id)
    this.#schemas.set(id, asked)
    // Only what stands for ever is kept: a schema under its id.
    asked.then(
      (schema) => {
        if (schema === null) this.#schemas.delete(id)
      },
      () => this.#schemas.delete(id),
    )
    return asked
  }

  async #ask(id: number): Promise<string | null> {
    for (let attempt = 1; ; attempt++) {
      try {
        // The client's public `getSchema` answers with a type of avsc, and what avsc does not know of a schema is lost in it.
        const answer = await this.#client["getSchemaOriginRequest"](id)
        const found: { schema: string } = answer.data()
        return found.schema
      } catch (error) {
        if (statusOf(error) !== 404) throw this.#told(error, `the schema ${id}`)
        if (attempt === 2) return null
        await new Promise((resolve) => setTimeout(resolve, pauseMs))
      }
    }
  }

  #told(error: unknown, what: string): Error {
    const status = statusOf(error)
    const said = error instanceof Error ? error.message : String(error)
    const cause = { cause: error }
    if (status === 409) {
      return new SchemaIncompatibleError(
        `The schema registry at ${this.#url} refuses the schema of ${what}: it would break readers or writers of earlier versions (${said}). Add fields only with defaults, and take none away.`,
        cause,
      )
    }
    if (status === 401 || status === 403) {
      return new LogUnavailableError(
        `The schema registry at ${this.#url} refused the credentials (${status}). Check SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD.`,
        cause,
      )
    }
    if (error instanceof Error && error.name === "ConfluentSchemaRegistryCompatibilityError") {
      return new LogUnavailableError(
        `The subject ${what} in the schema registry at ${this.#url} has another compatibility than FULL_TRANSITIVE (${said}). Set it with PUT /config/${what}.`,
        cause,
      )
    }
    if (status === undefined || status >= 500) {
      return new LogUnavailableError(
        `The schema registry cannot be reached at ${this.#url}: ${said}. Start it or set SCHEMA_REGISTRY_URL.`,
        cause,
      )
    }
    return new LogUnavailableError(`The schema registry at ${this.#url} did not take ${what} (${status}): ${said}.`, cause)
  }
}

/** A refusal of a compatibility says nothing about the schema. */
function isConfigRace(error: unknown): boolean {
  return (
    statusOf(error) === 409 && typeof error === "object" && error !== null && "url" in error && /^put .*\/config\//i.test(String(error.url))
  )
}

function isUnanswered(error: unknown): boolean {
  return typeof error === "object" && error !== null && "status" in error && statusOf(error) === undefined
}

/** The status of an answer; undefined where none came. The client gives a request without an answer the status 400. */
function statusOf(error: unknown): number | undefined {
  if (typeof error !== "object" || error === null || !("status" in error) || typeof error.status !== "number") return undefined
  return error.status === 400 && "message" in error && /ECONN|ENOTFOUND|EAI_AGAIN|socket|[Tt]imeout/.test(String(error.message))
    ? undefined
    : error.status
}
