import type { Log } from "@reins/log"
import type { Codec } from "@reins/log/codec"
import type { Service } from "@reins/runtime"
import { intakeLimits } from "./config.ts"
import { contract } from "./contract.ts"
import { hear } from "./decide.ts"

export interface IntakeOptions {
  readonly codec: Codec
  readonly partitions: number
  /** How large a content may be depends on whether it has a blob store. */
  readonly log?: Pick<Log, "blobs">
}

/** Hears commands, says what people and programs cause. Calls nothing outside. */
export function intake({ codec, partitions, log }: IntakeOptions): Service {
  const contentMax = log?.blobs === undefined ? intakeLimits.contentMax : intakeLimits.contentMaxWithBlobs
  return {
    name: "intake",
    contract,
    hear: (record, view) => hear(record, view, { codec, partitions, contentMax }),
  }
}
