import type { Codec } from "@reins/log/codec"

/** Asks the registry for a schema until it answers: while it is away what needs it waits, and nothing else ends. */
export async function learn(codec: Codec, schemaId: number, isOver: () => boolean): Promise<void> {
  for (let waitMs = 100; ; waitMs = Math.min(5000, 2 * waitMs)) {
    try {
      return await codec.learn(schemaId)
    } catch (error) {
      if (isOver()) throw error
      await new Promise<void>((resolve) => setTimeout(resolve, waitMs))
    }
  }
}
