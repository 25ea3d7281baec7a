import { readFileSync } from "node:fs"
import { isIPv4 } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { S3Bucket } from "@reins/log/s3"
import { z } from "zod"

const port = z.coerce.number().int().min(0).max(65_535)

/** The environment that every process reads, typed, once. Secrets may be given as files: `NAME_FILE`. */
const shape = {
  KAFKA_BROKERS: z.string().optional(),
  KAFKA_SSL_CA: z.string().optional(),
  KAFKA_SASL_MECHANISM: z.enum(["plain", "scram-sha-256", "scram-sha-512"]).optional(),
  KAFKA_SASL_USERNAME: z.string().optional(),
  KAFKA_SASL_PASSWORD: z.string().optional(),
  SCHEMA_REGISTRY_URL: z.url().optional(),
  SCHEMA_REGISTRY_USERNAME: z.string().optional(),
  SCHEMA_REGISTRY_PASSWORD: z.string().optional(),
  REINS_TOPIC_PREFIX: z
    .string()
    .regex(/^[a-zA-Z0-9._-]{1,100}$/, "must be 1 to 100 of a-z, A-Z, 0-9, dot, underscore and hyphen")
    .default("reins"),
  REINS_PARTITIONS: z.coerce.number().int().min(1).max(1000).optional(),
  REINS_DATA: z.string().min(1).default(".reins"),
  /** On Kafka: a local folder in which processes of this machine learn that another one is gone. `off`: none. Default: the system's temporary folder. */
  REINS_STATE: z.string().min(1).optional(),
  /**
   * Where values above 256 KiB stand: a folder, `s3://bucket/prefix`, or `off`. Default: the folder `blobs` in `REINS_DATA`; on Kafka none,
   * and no value may be larger than a record.
   */
  REINS_BLOBS: z.string().min(1).optional(),
  /** Of a store that speaks S3 and is not Amazon's. */
  AWS_ENDPOINT_URL_S3: z.url().optional(),
  AWS_REGION: z.string().min(1).optional(),
  AWS_ACCESS_KEY_ID: z.string().min(1).optional(),
  AWS_SECRET_ACCESS_KEY: z.string().min(1).optional(),
  AWS_SESSION_TOKEN: z.string().min(1).optional(),
  REINS_MODEL: z.string().min(1).default("claude-sonnet-5-5"),
  /** The model's window in tokens: a conversation that has used four fifths of it is summarised before it goes on. */
  REINS_CONTEXT_TOKENS: z.coerce.number().int().min(1000).default(200_000),
  REINS_HOST: z.string().min(1).default("127.0.0.1"),
  REINS_PORT: port.default(0),
  REINS_LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).default("info"),
  REINS_DRAIN_MS: z.coerce.number().int().min(0).default(20_000),
  /** `off`: no answer is shown while it is being written; streams then hear of it when it is whole. Costs the log up to 20 records a second for each answer under way. */
  REINS_PREVIEWS: z.enum(["on", "off"]).default("on"),
  /** Sessions that have not run for so many days are deleted, and with it erased (services/eraser). Unset: none is. */
  REINS_SESSION_RETENTION_DAYS: z.coerce.number().positive().max(36_500).optional(),
  /** `open`: the gateway takes anyone who reaches it, which is allowed on a loopback address only. Without it: `open` in `reins dev`, `keys` elsewhere. */
  REINS_API_AUTH: z.enum(["open", "keys"]).optional(),
  ANTHROPIC_API_KEY: z.string().min(1).optional(),
  ANTHROPIC_AUTH_TOKEN: z.string().min(1).optional(),
  ANTHROPIC_BASE_URL: z.url().optional(),
}

/** Every name, for the compose file's check and `config show`. */
export const environmentNames: readonly string[] = Object.keys(shape)
const secrets = new Set([
  "KAFKA_SASL_PASSWORD",
  "SCHEMA_REGISTRY_PASSWORD",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN",
  "ANTHROPIC_API_KEY",
  "ANTHROPIC_AUTH_TOKEN",
])
/** Read by tests and scripts only. */
const foreign = new Set([
  "REINS_REQUIRE_KAFKA",
  "REINS_REQUIRE_BROWSER",
  "REINS_CHROMIUM",
  "REINS_TEST_EVERY_KILL",
  "REINS_TEST_KAFKA",
  "REINS_TEST_REGISTRY",
  "REINS_NODE",
  "REINS_MODEL_LATENCY_MS",
])

/** Where values stand that are too large for a record. */
export type BlobsConfig = { readonly kind: "folder"; readonly path: string } | ({ readonly kind: "s3" } & S3Bucket)

export interface Config {
  /** Null: the embedded log. */
  readonly kafka: {
    readonly brokers: readonly string[]
    readonly registryUrl: string
    readonly registryAuth: { readonly username: string; readonly password: string } | null
    readonly ca: string | null
    readonly sasl: {
      readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512"
      readonly username: string
      readonly password: string
    } | null
  } | null
  readonly prefix: string
  readonly partitions: number
  readonly dataDir: string
  /** The blob store (`REINS_BLOBS`); null: no value may be larger than a record. */
  readonly blobs: BlobsConfig | null
  /** Where processes of this machine learn that another one is gone, so that its session need not time out (`REINS_STATE`); null: nowhere. */
  readonly stateDir: string | null
  readonly model: string
  /** The model's window in tokens (`REINS_CONTEXT_TOKENS`). */
  readonly contextTokens: number
  readonly anthropic: { readonly apiKey?: string; readonly authToken?: string; readonly baseURL?: string }
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  readonly logLevel: string
  /** How long a process waits for its effects when it must end. */
  readonly drainMs: number
  /** Whether answers are published to the topic `deltas` while they are written (`REINS_PREVIEWS`). */
  readonly previews: boolean
  /** How long a session that runs no more is kept (`REINS_SESSION_RETENTION_DAYS`); null: until someone deletes it. */
  readonly sessionRetentionDays: number | null
  /** Who may use the API (`REINS_API_AUTH`); null where the environment does not say. */
  readonly apiAuth: "open" | "keys" | null
  /** What is odd about the environment, in sentences. */
  readonly warnings: readonly string[]
}

/** The environment does not make sense. */
export class ConfigError extends Error {
  readonly code = "config"
  readonly retryable = false
}

/** Reads the environment. Throws a `ConfigError` naming the variable. */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): Config {
  const given: Record<string, string> = {}
  const warnings: string[] = []
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined || value === "") continue
    const secret = name.endsWith("_FILE") ? name.slice(0, -5) : undefined
    if (secret !== undefined && secrets.has(secret)) {
      try {
        given[secret] = readFileSync(value, "utf8").trim()
      } catch (error) {
        throw new ConfigError(`${name} names a file that cannot be read: ${(error as Error).message}.`)
      }
    } else if (name in shape) given[name] ??= value
    else if (name.startsWith("REINS_") && !foreign.has(name))
      warnings.push(
        `${name} is not a variable that Reins knows; it is ignored. It knows: ${environmentNames.filter((known) => known.startsWith("REINS_")).join(", ")}.`,
      )
  }
  const parsed = z.object(shape).safeParse(given)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw new ConfigError(`${String(issue?.path[0])}: ${issue?.message}.`)
  }
  const env = parsed.data
  const brokers = (env.KAFKA_BROKERS ?? "")
    .split(",")
    .map((broker) => broker.trim())
    .filter((broker) => broker !== "")
  if (brokers.length > 0 && env.SCHEMA_REGISTRY_URL === undefined)
    throw new ConfigError("KAFKA_BROKERS is set, so SCHEMA_REGISTRY_URL must be set too.")
  if (/^\.+$/.test(env.REINS_TOPIC_PREFIX)) throw new ConfigError("REINS_TOPIC_PREFIX: must be more than dots.")
  if (env.KAFKA_SASL_MECHANISM !== undefined && (env.KAFKA_SASL_USERNAME === undefined || env.KAFKA_SASL_PASSWORD === undefined)) {
    throw new ConfigError("KAFKA_SASL_MECHANISM is set, so KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD must be set too.")
  }
  if (env.REINS_API_AUTH === "open" && !isLoopback(env.REINS_HOST)) {
    throw new ConfigError(
      `REINS_API_AUTH is open, so REINS_HOST must be a loopback address and not ${env.REINS_HOST}: whoever reaches it may do everything.`,
    )
  }
  return {
    kafka:
      brokers.length === 0
        ? null
        : {
            brokers,
            registryUrl: env.SCHEMA_REGISTRY_URL as string,
            registryAuth:
              env.SCHEMA_REGISTRY_USERNAME === undefined
                ? null
                : { username: env.SCHEMA_REGISTRY_USERNAME, password: env.SCHEMA_REGISTRY_PASSWORD ?? "" },
            ca: env.KAFKA_SSL_CA === undefined ? null : readCa(env.KAFKA_SSL_CA),
            sasl:
              env.KAFKA_SASL_MECHANISM === undefined
                ? null
                : {
                    mechanism: env.KAFKA_SASL_MECHANISM,
                    username: env.KAFKA_SASL_USERNAME as string,
                    password: env.KAFKA_SASL_PASSWORD as string,
                  },
          },
    prefix: env.REINS_TOPIC_PREFIX,
    partitions: env.REINS_PARTITIONS ?? (brokers.length > 0 ? 12 : 4),
    dataDir: env.REINS_DATA,
    blobs: blobsOf(env, brokers.length > 0 ? null : join(env.REINS_DATA, "blobs")),
    stateDir: env.REINS_STATE === "off" ? null : (env.REINS_STATE ?? tmpdir()),
    model: env.REINS_MODEL,
    anthropic: {
      ...(env.ANTHROPIC_API_KEY === undefined ? {} : { apiKey: env.ANTHROPIC_API_KEY }),
      ...(env.ANTHROPIC_AUTH_TOKEN === undefined ? {} : { authToken: env.ANTHROPIC_AUTH_TOKEN }),
      ...(env.ANTHROPIC_BASE_URL === undefined ? {} : { baseURL: env.ANTHROPIC_BASE_URL }),
    },
    host: env.REINS_HOST,
    port: env.REINS_PORT,
    logLevel: env.REINS_LOG_LEVEL,
    drainMs: env.REINS_DRAIN_MS,
    apiAuth: env.REINS_API_AUTH ?? null,
    previews: env.REINS_PREVIEWS === "on",
    contextTokens: env.REINS_CONTEXT_TOKENS,
    sessionRetentionDays: env.REINS_SESSION_RETENTION_DAYS ?? null,
    warnings,
  }
}

function blobsOf(env: z.infer<z.ZodObject<typeof shape>>, usual: string | null): BlobsConfig | null {
  const given = env.REINS_BLOBS ?? usual
  if (given === null || given === "off") return null
  if (!given.includes("://")) return { kind: "folder", path: given }
  const [, bucket, prefix = ""] = /^s3:\/\/([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])(?:\/([\w./-]*))?$/.exec(given) ?? []
  if (bucket === undefined || prefix.split("/").some((part) => part === "." || part === ".."))
    throw new ConfigError(`REINS_BLOBS: is a folder, s3://bucket/prefix or off, and not ${given}.`)
  if (env.AWS_ACCESS_KEY_ID === undefined || env.AWS_SECRET_ACCESS_KEY === undefined)
    throw new ConfigError("REINS_BLOBS is an S3 bucket, so AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set too.")
  return {
    kind: "s3",
    bucket,
    prefix: prefix.split("/").filter(Boolean).join("/"),
    region: env.AWS_REGION ?? "us-east-1",
    endpoint: env.AWS_ENDPOINT_URL_S3 ?? null,
    accessKeyId: env.AWS_ACCESS_KEY_ID,
    secretAccessKey: env.AWS_SECRET_ACCESS_KEY,
    sessionToken: env.AWS_SESSION_TOKEN ?? null,
  }
}

/** KAFKA_SSL_CA holds the certificate itself or the path of a file with it. */
function readCa(value: string): string {
  if (value.includes("-----BEGIN")) return value
  try {
    return readFileSync(value, "utf8")
  } catch (error) {
    throw new ConfigError(`KAFKA_SSL_CA names a file that cannot be read: ${(error as Error).message}.`)
  }
}

/** Whether nobody but this machine reaches what listens there. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIPv4(host) && host.startsWith("127."))
}
