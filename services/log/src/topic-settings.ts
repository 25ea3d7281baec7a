import { type TopicDescription, TopicMismatchError, type TopicSettings } from "./log.ts"

/** Throws `TopicMismatchError` where `found` cannot serve as `wanted`; `place` says where the topic stands ("the log in .reins"). */
export function verifyTopic(wanted: TopicSettings, found: TopicDescription | undefined, place: string): void {
  if (found === undefined) {
    throw new TopicMismatchError(`The topic ${wanted.name} is missing in ${place}. Create it with \`reins topics apply\`.`)
  }
  if (found.partitions !== wanted.partitions) {
    throw new TopicMismatchError(
      `The topic ${wanted.name} in ${place} has ${found.partitions} partitions, and Reins is set to ${wanted.partitions}. The number decides which partition a session lives in, so it can never change: set REINS_PARTITIONS=${found.partitions}, or use another topic prefix or data folder.`,
    )
  }
  if (found.cleanup !== wanted.cleanup) {
    throw new TopicMismatchError(
      `The topic ${wanted.name} in ${place} has the cleanup policy "${found.cleanup}", and Reins needs "${wanted.cleanup}": anything else would drop records that replay needs. Set cleanup.policy=${wanted.cleanup} on the topic, or use another topic prefix or data folder.`,
    )
  }
}
