import { join } from "node:path"
import { type Blobs, type Log, LogUnavailableError, type SchemaRegistry } from "@reins/log"
import { FolderBlobs, withBlobs } from "@reins/log/blobs"
import { Codec } from "@reins/log/codec"
import type { BlobsConfig, Config } from "./config.ts"

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
    return opened(config, log, confluentRegistry({ url: registryUrl, auth: registryAuth }), options)
  }
  const { openSqlite } = await import("@reins/log/sqlite")
  const { log, registry } = openSqlite({ dir: config.dataDir, ...(options.readOnly === true ? { readOnly: true } : {}) })
  return opened(config, log, registry, options)
}

async function opened(config: Config, log: Log, registry: SchemaRegistry, options: OpenLogOptions): Promise<OpenLog> {
  try {
    const codec = options.readOnly === true ? Codec.reader(registry) : await Codec.open(registry)
    if (config.blobs === null) return { log, codec }
    const blobs = await openBlobs(config.blobs, config.prefix)
    const warn = (error: Error): void => options.warn?.(`The blob store does not answer; it is asked until it does. ${error.message}`)
    return { log: withBlobs(log, { codec, blobs, warn }), codec }
  } catch (error) {
    await log.close()
    throw error instanceof Error ? error : new LogUnavailableError(String(error))
  }
}

/** Each topic prefix has its own: what is collected for one log is looked for in no other. */
async function openBlobs(config: BlobsConfig, prefix: string): Promise<Blobs> {
  if (config.kind === "folder") return new FolderBlobs(join(config.path, prefix))
  // Only who uses S3 loads it.
  const { S3Blobs } = await import("@reins/log/s3")
  return new S3Blobs({ ...config, prefix: config.prefix === "" ? prefix : `${config.prefix}/${prefix}` })
}
