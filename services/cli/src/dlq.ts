import { topicNames } from "@reins/events"
import type { Log } from "@reins/log"
import { type Config, type DeadLetter, newInstance, openLog, readDeadLetters, retryDeadLetter, settleDeadLetter } from "@reins/runtime"
import { CliError } from "./fail.ts"
import { configured, iso, reading } from "./open.ts"
import { clean } from "./render.ts"

/** The dead letters: what nobody could read, where it stood, and why. */
export async function dlqList(options: { readonly json?: boolean; readonly all?: boolean }): Promise<void> {
  await reading(async ({ log }, config) => {
    const letters = (await readDeadLetters(log, topicNames(config.prefix))).filter(
      (letter) => options.all === true || letter.settled === null,
    )
    if (options.json === true) process.stdout.write(`${JSON.stringify(letters.map(plain), null, 2)}\n`)
    else for (const letter of letters) process.stdout.write(`${row(letter)}\n`)
    if (letters.length === 0) process.stderr.write("There are no dead letters.\n")
  })
}

export async function dlqShow(offset: string): Promise<void> {
  await reading(async ({ log }, config) => {
    process.stdout.write(`${JSON.stringify(plain(await find(log, config, offset)), null, 2)}\n`)
  })
}

/** Sends one back to where it came from, or notes that it is of no use. */
export async function dlqSettle(offset: string, as: "retried" | "dropped"): Promise<void> {
  const config = configured()
  const { log } = await openLog(config, newInstance("cli"))
  try {
    const letter = await find(log, config, offset)
    if (letter.settled !== null) throw new CliError(1, `The dead letter ${offset} was ${letter.settled} before.`)
    if (as === "retried") await retryDeadLetter(log, topicNames(config.prefix), letter)
    else await settleDeadLetter(log, topicNames(config.prefix), letter, as)
    process.stderr.write(
      as === "retried"
        ? `Sent again to ${letter.topic}[${letter.partition}], bytes untouched.\n`
        : "Dropped: it no longer shows; its bytes stay until the topic's retention.\n",
    )
  } finally {
    await log.close()
  }
}

async function find(log: Log, config: Config, offset: string): Promise<DeadLetter> {
  const letter = (await readDeadLetters(log, topicNames(config.prefix))).find((one) =>
    [one.offset, ...one.copies].some((at) => String(at) === offset),
  )
  if (letter === undefined) throw new CliError(3, `There is no dead letter ${offset}. \`reins dlq list\` shows what there is.`)
  return letter
}

function row({ offset, topic, partition, originalOffset, reason, message, settled }: DeadLetter): string {
  return `${String(offset).padStart(6)}  ${topic}[${partition}]@${originalOffset}  ${reason}${settled === null ? "" : ` (${settled})`}  ${clean(message)}`
}

function plain({ value, buriedAt, ...letter }: DeadLetter): unknown {
  const bytes = value === null ? null : Buffer.from(value)
  return {
    ...letter,
    buriedAt: iso(buriedAt),
    valueBase64: bytes?.toString("base64") ?? null,
    valueText: bytes === null ? null : clean(bytes.toString("utf8").slice(0, 2000)),
  }
}
