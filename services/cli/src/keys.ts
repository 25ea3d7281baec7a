import { createHash, randomBytes, randomInt } from "node:crypto"
import { hostname } from "node:os"
import { type KeySaved, topicNames } from "@reins/events"
import type { Log } from "@reins/log"
import { type Codec, decodeLearning } from "@reins/log/codec"
import { type Config, newInstance, openLog, topicSettings } from "@reins/runtime"
import { DirectoryFold, type KeyEntry } from "@reins/session"
import { CliError } from "./fail.ts"
import { configured, iso, reading } from "./open.ts"
import { clean } from "./render.ts"

const alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

function base58(length: number): string {
  return Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join("")
}

interface Printing {
  readonly json?: boolean
}

/** Makes a key of a tenant. It is shown this once: the log keeps its hash alone. */
export async function keysCreate(options: Printing & { readonly tenant: string; readonly name: string }): Promise<void> {
  const { tenant, name } = options
  if (!/^[a-zA-Z0-9._-]{1,100}$/.test(tenant))
    throw new CliError(
      2,
      `--tenant takes 1 to 100 of a-z, A-Z, 0-9, dot, underscore and hyphen; ${JSON.stringify(tenant)} is no such name.`,
    )
  if (name.length < 1 || name.length > 200) throw new CliError(2, "--name takes 1 to 200 characters.")
  const key = `rk_${base58(40)}`
  const id = `apikey_${base58(24)}`
  await writing(async ({ log, codec }, config) => {
    const hash = createHash("sha256").update(key).digest("hex")
    await save(log, codec, config, { id, tenant, name: name.toWellFormed(), hash, revoked: false })
  })
  if (options.json === true) process.stdout.write(`${JSON.stringify({ id, tenant, name, key }, null, 2)}\n`)
  else {
    process.stdout.write(`${key}\n`)
    process.stderr.write(`${id} of the tenant ${tenant}. The key is shown this once.\n`)
  }
}

export async function keysList(options: Printing): Promise<void> {
  await reading(async ({ log, codec }, config) => {
    const keys = [...(await readKeys(log, codec, config)).values()].map(plain)
    if (options.json === true) process.stdout.write(`${JSON.stringify(keys, null, 2)}\n`)
    else for (const key of keys) process.stdout.write(`${row(key)}\n`)
    if (keys.length === 0) process.stderr.write("There is no key yet. `reins keys create` makes one.\n")
  })
}

/** From now on nobody gets in with it: every gateway hears of it as it follows the topic. */
export async function keysRevoke(id: string): Promise<void> {
  await writing(async ({ log, codec }, config) => {
    const key = (await readKeys(log, codec, config)).get(id)
    if (key === undefined) throw new CliError(3, `There is no key ${id}. \`reins keys list\` shows what there is.`)
    if (key.revokedAt !== null) {
      process.stderr.write(`${id} was revoked before.\n`)
      return
    }
    const { tenant, name, hash } = key
    await save(log, codec, config, { id, tenant, name, hash, revoked: true })
    process.stderr.write(`${id} is revoked.\n`)
  })
}

async function writing(use: (opened: { readonly log: Log; readonly codec: Codec }, config: Config) => Promise<void>): Promise<void> {
  const config = configured()
  const opened = await openLog(config, newInstance("cli"))
  try {
    const topic = topicSettings(config.prefix, config.partitions).filter(({ name }) => name === topicNames(config.prefix).keys)
    await opened.log.applyTopics(topic)
    await use(opened, config)
  } finally {
    await opened.log.close()
  }
}

async function save(log: Log, codec: Codec, config: Config, key: Omit<KeySaved, "type" | "eventId" | "at" | "by">): Promise<void> {
  const saved: KeySaved = { type: "key.saved", eventId: `evt_${base58(20)}`, at: Date.now(), by: `cli@${hostname()}`, ...key }
  await log.append({
    topic: topicNames(config.prefix).keys,
    partition: 0,
    key: () => `${key.id}/${randomBytes(8).toString("hex")}`,
    value: codec.encode("keys", saved),
    headers: { type: saved.type },
    certainty: "always",
  })
}

async function readKeys(log: Log, codec: Codec, config: Config): Promise<ReadonlyMap<string, KeyEntry>> {
  const topic = topicNames(config.prefix).keys
  const fold = new DirectoryFold()
  if (!(await log.describeTopics()).some(({ name }) => name === topic)) return fold.keys
  for await (const records of log.replay(topic, 0, 0)) {
    for (const record of records) {
      if (record.value === null) continue
      const decoded = await decodeLearning(codec, "keys", record)
      if (decoded.ok) fold.apply(decoded.said as unknown as KeySaved, record.timestamp)
    }
  }
  return fold.keys
}

interface Plain {
  readonly id: string
  readonly tenant: string
  readonly name: string
  readonly createdAt: string
  readonly revokedAt: string | null
}

/** The hash is of no use to a reader. */
function plain({ id, tenant, name, createdAt, revokedAt }: KeyEntry): Plain {
  return { id, tenant, name, createdAt: iso(createdAt), revokedAt: revokedAt === null ? null : iso(revokedAt) }
}

function row({ id, tenant, name, createdAt, revokedAt }: Plain): string {
  return `${id}  ${tenant.padEnd(16)} ${clean(name).padEnd(24)} ${createdAt}${revokedAt === null ? "" : `  revoked ${revokedAt}`}`
}
