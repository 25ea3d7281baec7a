import type { Log } from "@reins/log"
import { type Config, newInstance, type OpenLog, openLog, readConfig, SessionReader } from "@reins/runtime"
import { CliError } from "./fail.ts"

/** The environment, with its oddities said on stderr. */
export function configured(): Config {
  const config = readConfig(process.env)
  for (const warning of config.warnings) process.stderr.write(`reins: ${warning}\n`)
  return config
}

/** Opens the log to read it, beside whoever writes it, and closes it again. */
export async function reading<T>(use: (opened: OpenLog, config: Config) => Promise<T>): Promise<T> {
  const config = configured()
  const opened = await openLog(config, newInstance("cli"), { readOnly: true })
  try {
    return await use(opened, config)
  } finally {
    await opened.log.close()
  }
}

/** Finds a session or says that there is none. */
export async function readerOf({ log, codec }: OpenLog, config: Config, sessionId: string): Promise<SessionReader> {
  const reader = await SessionReader.open(log, codec, config.prefix, sessionId)
  if (reader === null)
    throw new CliError(3, `There is no session log under the prefix ${config.prefix} yet. Start a session with \`reins run\`.`)
  return reader
}

export function notFound(sessionId: string): CliError {
  return new CliError(3, `There is no session ${sessionId}. \`reins sessions list\` shows what there is.`)
}

/** Where every partition of these topics ends now: who follows from there sees nothing of what stands. */
export async function endsOf(log: Log, topics: readonly string[]): Promise<(topic: string, partition: number) => number> {
  const ends = new Map<string, number>()
  for (const topic of topics) for (const { partition, end } of await log.bounds(topic)) ends.set(`${topic}/${partition}`, end)
  return (topic, partition) => ends.get(`${topic}/${partition}`) ?? 0
}

export function iso(ms: number): string {
  return new Date(ms).toISOString()
}
