import { type TopicNames, topicNames } from "@reins/events"
import type { Log } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import type { Service, ServiceContext } from "@reins/runtime"
import type { Logger } from "pino"
import { collectBlobs } from "./collect.ts"
import { defaultEraserLimits, type EraserLimits } from "./config.ts"
import { contract } from "./contract.ts"
import { decide, type Work } from "./decide.ts"
import { Erasure } from "./perform.ts"

export interface EraserOptions {
  readonly log: Log
  readonly codec: Codec
  readonly prefix: string
  readonly partitions: number
  readonly logger: Logger
  readonly limits?: Partial<EraserLimits>
}

/** Erases deleted sessions, and has those deleted that have not run for longer than they are kept. Touches no session that is not deleted. */
export function eraser({ log, codec, prefix, partitions, logger, limits: given }: EraserOptions): Service<Work> {
  const limits = { ...defaultEraserLimits, ...given }
  const topics = topicNames(prefix)
  const erasure = new Erasure({ log, codec, topics, partitions, logger, limits })
  return {
    name: "eraser",
    contract,
    decide: (view) => decide(view, limits),
    concernedWith: (status) => status === "deleted" || (limits.retentionMs !== null && status !== "running"),
    perform: (work, performing) => erasure.perform(work, performing),
    ...(log.blobs === undefined ? {} : { chore: chore(log, topics, limits, logger) }),
    // Those of one partition share a reading only if they may wait for it together.
    concurrency: 1000,
  }
}

function chore(
  log: Log,
  topics: TopicNames,
  { blobGraceMs, collectFirstMs, collectEveryMs }: EraserLimits,
  logger: Logger,
): NonNullable<Service["chore"]> {
  return {
    firstAfterMs: collectFirstMs,
    everyMs: collectEveryMs,
    run: async (signal) => {
      const collected = await collectBlobs(log, topics, blobGraceMs, signal)
      if (collected.collected > 0) logger.info(collected, "Blobs that no record names were collected.")
    },
  }
}

/** The eraser of a process, which keeps sessions for as long as its environment says (`REINS_SESSION_RETENTION_DAYS`). */
export function eraserOf({ log, codec, config, logger }: ServiceContext): Service<Work> {
  const { prefix, partitions, sessionRetentionDays: days } = config
  const retentionMs = days === null ? null : days * 86_400_000
  return eraser({ log, codec, prefix, partitions, logger, limits: { retentionMs } })
}
