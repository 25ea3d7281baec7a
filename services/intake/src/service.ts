import type { Codec } from "@reins/log/codec"
import type { Service } from "@reins/runtime"
import { contract } from "./contract.ts"
import { hear } from "./decide.ts"

/** Hears commands, says what people and programs cause. Calls nothing outside. */
export function intake(options: { readonly codec: Codec; readonly partitions: number }): Service {
  return {
    name: "intake",
    contract,
    hear: (record, view) => hear(record, view, options),
  }
}
