import type { ToolDeclared } from "@reins/events"
import type { Log, LogRecord } from "@reins/log"
import { type Codec, decodeRecord } from "@reins/log/codec"
import type { Logger } from "pino"

/** What workers have declared: the newest record per backend and tool. */
export class Declarations {
  readonly #byKey = new Map<string, ToolDeclared>()
  readonly #codec: Codec
  readonly #logger: Logger
  readonly #newBackend: (backend: string) => void
  caughtUp = false

  constructor(codec: Codec, logger: Logger, newBackend: (backend: string) => void) {
    this.#codec = codec
    this.#logger = logger
    this.#newBackend = newBackend
  }

  async read(records: readonly LogRecord[]): Promise<void> {
    for (const record of records) {
      if (record.value === null) {
        if (record.key !== null) this.#byKey.delete(record.key)
        continue
      }
      let decoded = decodeRecord(this.#codec, "declarations", record)
      if (!decoded.ok && "unknownSchema" in decoded) {
        await this.#codec
          .learn(decoded.unknownSchema)
          .catch((error: unknown) => this.#logger.warn({ err: error }, "A declaration's schema cannot be learnt."))
        decoded = decodeRecord(this.#codec, "declarations", record)
      }
      if (decoded.ok) this.#add(decoded.said as unknown as ToolDeclared)
      else
        this.#logger.warn(
          { offset: record.offset },
          `A declaration cannot be read: ${"message" in decoded ? decoded.message : `its schema ${decoded.unknownSchema} is unknown`}`,
        )
    }
  }

  #add(declared: ToolDeclared): void {
    this.#byKey.set(`${declared.backend}/${declared.tool}`, declared)
    this.#newBackend(declared.backend)
  }

  /** The tool, or the backend's wildcard for tools that the agent describes itself. */
  get(backend: string, tool: string): ToolDeclared | undefined {
    return this.#byKey.get(`${backend}/${tool}`) ?? this.#byKey.get(`${backend}/*`)
  }

  all(): readonly ToolDeclared[] {
    return [...this.#byKey.values()]
  }
}

/** Says what a worker can do. */
export async function declare(log: Log, codec: Codec, topic: string, declared: ToolDeclared): Promise<void> {
  await log.append({
    topic,
    partition: 0,
    key: () => `${declared.backend}/${declared.tool}`,
    value: codec.encode("declarations", declared),
    headers: { type: declared.type },
    certainty: "always",
  })
}
