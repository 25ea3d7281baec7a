import { z } from "zod"

/** What a client may send, as the SDK's `BetaManagedAgentsEventParams` has it. Unknown fields are refused: a typo must not pass for a wish. */

const text = z.strictObject({ type: z.literal("text"), text: z.string().min(1) })
const base64 = z.strictObject({ type: z.literal("base64"), media_type: z.string().min(1).max(200), data: z.base64() })
const url = z.strictObject({ type: z.literal("url"), url: z.url().max(8192) })
const plain = z.strictObject({ type: z.literal("text"), media_type: z.literal("text/plain").optional(), data: z.string() })
const image = z.strictObject({ type: z.literal("image"), source: z.discriminatedUnion("type", [base64, url]) })
const document = z.strictObject({
  type: z.literal("document"),
  source: z.discriminatedUnion("type", [base64, url, plain]),
  title: z.string().nullish(),
  context: z.string().nullish(),
})
const searchResult = z.strictObject({
  type: z.literal("search_result"),
  source: z.string(),
  title: z.string(),
  content: z.array(text),
  citations: z.strictObject({ enabled: z.boolean().optional() }).optional(),
})
const messageContent = z
  .array(z.discriminatedUnion("type", [text, image, document]))
  .min(1)
  .max(1000)
const emptyText = z.strictObject({ type: z.literal("text"), text: z.string() })
const resultContent = z.array(z.discriminatedUnion("type", [emptyText, image, document, searchResult])).max(1000)

const threadId = z.string().max(200).nullish()
const eventId = z.string().min(1).max(200)

export const userMessage = z.strictObject({ type: z.literal("user.message"), content: messageContent })
const userInterrupt = z.strictObject({ type: z.literal("user.interrupt"), session_thread_id: threadId })
const userToolConfirmation = z
  .strictObject({
    type: z.literal("user.tool_confirmation"),
    tool_use_id: eventId,
    result: z.enum(["allow", "deny"]),
    deny_message: z.string().max(10_000).nullish(),
    session_thread_id: threadId,
  })
  .refine(({ result, deny_message: said }) => result === "deny" || (said ?? null) === null, {
    message: "deny_message is only allowed when result is deny",
    path: ["deny_message"],
  })
const userCustomToolResult = z.strictObject({
  type: z.literal("user.custom_tool_result"),
  custom_tool_use_id: eventId,
  content: resultContent.optional(),
  is_error: z.boolean().nullish(),
  session_thread_id: threadId,
})

export const clientEvent = z.discriminatedUnion("type", [userMessage, userInterrupt, userToolConfirmation, userCustomToolResult])
export type ClientEvent = z.infer<typeof clientEvent>

/** Types of the API that Reins does not take yet, each with what stands in the way. */
export const notYet: Readonly<Record<string, string>> = {
  "user.tool_result": "There is no sandbox whose tools a client could run; use a custom tool.",
  "user.define_outcome": "Outcomes are not supported yet.",
  "system.message": "Messages to the system are not supported yet.",
}
