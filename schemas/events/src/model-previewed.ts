import { z } from "zod"
import { count } from "./fields.ts"

const schema = z.object({
  sessionId: z.string().min(1),
  /** The eventId of the `model.requested` whose answer this is a part of. */
  claim: z.string(),
  /** The index of the content block. */
  block: count(),
  /** `text` or `thinking`; of thinking no text is shown. */
  kind: z.string(),
  /** Where `text` begins in the block, in UTF-16 units: fragments form a prefix, and a gap ends it. */
  from: count(),
  text: z.string(),
})

/** A part of an answer that is still being written, on `deltas`: never part of the truth, lost without harm. */
export const modelPreviewed = {
  type: "model.previewed" as const,
  family: "deltas" as const,
  recordName: "reins.deltas.ModelPreviewed",
  meaning: "A part of an answer that is still being written. Never part of the truth: the answer itself is `model.responded`.",
  saidBy: ["llm-invoker"],
  heardBy: ["gateway"],
  schema,
  example: {
    type: "model.previewed" as const,
    sessionId: "sesn_my1",
    claim: "evt_02",
    block: 0,
    kind: "text",
    from: 0,
    text: "Order 17 is ",
  },
}
export type ModelPreviewed = z.infer<typeof schema> & { readonly type: "model.previewed" }
