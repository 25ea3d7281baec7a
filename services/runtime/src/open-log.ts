import { type Log, LogUnavailableError, type SchemaRegistry } from "@reins/log"
import { Codec } from "@reins/log/codec"
import type { Config } from "./config.ts"

export interface OpenLog {
  readonly log: Log
  readonly codec: Codec
}

export interface OpenLogOptions {
  readonly readOnly?: boolean
  /** Told what is less than it could be, in a sentence. */
  readonly warn?: (warning: string) => void
}

/** The log that the environment names: Kafka with its registry, or one SQLite file. Throws what the log throws, each with what to do. */
export async function openLog(config: Config, instance: string, options: OpenLogOptions = {}): Promise<OpenLog> {
  if (config.kafka !== null) {
    const { brokers, registryUrl, registryAuth, ca, sasl } = config.kafka
    // Only who uses Kafka loads it.
    const [{ openKafka }, { confluentRegistry }] = await Promise.all([import("@reins/log/kafka"), import("@reins/log/confluent")])
    const log = await openKafka({
      brokers,
      instance,
      ...(ca === null ? {} : { ssl: { ca } }),
      ...(sasl === null ? {} : { sasl }),
      ...(config.stateDir === null ? {} : { stateDir: config.stateDir }),
      stateRefused: (why) =>
        options.warn?.(`Members killed on this machine are replaced only when their sessions time out: ${why} REINS_STATE names a folder.`),
    })
    return opened(log, confluentRegistry({ url: registryUrl, auth: registryAuth }), options)
  }
  const { openSqlite } = await import("@reins/log/sqlite")
  const { log, registry } = openSqlite({ dir: config.dataDir, ...(options.readOnly === true ? { readOnly: true } : {}) })
  return opened(log, registry, options)
}

async function opened(log: Log, registry: SchemaRegistry, options: OpenLogOptions): Promise<OpenLog> {
  try {
    return { log, codec: options.readOnly === true ? Codec.reader(registry) : await Codec.open(registry) }
  } catch (error) {
    await log.close()
    throw error instanceof Error ? error : new LogUnavailableError(String(error))
  }
}
