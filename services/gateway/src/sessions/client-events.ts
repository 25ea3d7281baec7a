import type { BetaManagedAgentsSessionEventType } from "@anthropic-ai/sdk/resources/beta/sessions/events"
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

/** Every type that a list can be asked for, those of later tiers among them: nothing of theirs happens here yet. */
export const listableTypes: ReadonlySet<string> = new Set<BetaManagedAgentsSessionEventType>([
  "user.message",
  "user.interrupt",
  "user.tool_confirmation",
  "user.custom_tool_result",
  "agent.custom_tool_use",
  "agent.message",
  "agent.thinking",
  "agent.mcp_tool_use",
  "agent.mcp_tool_result",
  "agent.tool_use",
  "agent.tool_result",
  "agent.thread_message_received",
  "agent.thread_message_sent",
  "agent.thread_context_compacted",
  "session.error",
  "session.status_rescheduled",
  "session.status_running",
  "session.status_idle",
  "session.status_terminated",
  "session.thread_created",
  "span.outcome_evaluation_start",
  "span.outcome_evaluation_end",
  "span.model_request_start",
  "span.model_request_end",
  "span.outcome_evaluation_ongoing",
  "user.define_outcome",
  "session.thread_status_running",
  "session.thread_status_idle",
  "session.thread_status_terminated",
  "user.tool_result",
  "session.thread_status_rescheduled",
  "session.updated",
  "system.message",
  "session.usage",
  "workflow_run.created",
  "workflow_run.status_running",
  "workflow_run.status_idle",
  "workflow_run.status_ended",
  "workflow_run.error",
  "workflow_run.phase_started",
  "workflow_run.phase_ended",
])
