import { collectBlobs, defaultEraserLimits } from "@reins/eraser"
import { topicNames } from "@reins/events"
import { CliError } from "./fail.ts"
import { reading } from "./open.ts"

const hourMs = 3_600_000

/** Removes blobs that no record names. Beside whoever writes: what is young stays. */
export async function blobsCollect(options: { readonly olderThan?: string; readonly json?: boolean }): Promise<void> {
  const hours = options.olderThan === undefined ? defaultEraserLimits.blobGraceMs / hourMs : Number(options.olderThan)
  // An append whose blob stands may be tried for a while until it stands too.
  if (!(hours >= 1)) throw new CliError(2, `--older-than takes hours, at least 1; ${options.olderThan} is none.`)
  await reading(async ({ log }, config) => {
    if (log.blobs === undefined) throw new CliError(2, "There is no blob store: set REINS_BLOBS.")
    const collected = await collectBlobs(log, topicNames(config.prefix), hours * hourMs)
    if (options.json === true) process.stdout.write(`${JSON.stringify({ place: log.blobs.place, ...collected }, null, 2)}\n`)
    else
      process.stdout.write(
        `${collected.collected} of ${collected.stored} blobs in ${log.blobs.place} were named by no record and older than ${hours} h: ${collected.bytes} bytes are free.\n`,
      )
  })
}
