import { z } from "zod"
import { sessionFact } from "./define.ts"
import { commandPosition, json } from "./fields.ts"

export const sessionUpdated = sessionFact({
  type: "session.updated",
  meaning: "What a session is called, or what its agent may use, changed.",
  saidBy: ["intake"],
  heardBy: ["llm-invoker", "tool-router", "gateway"],
  fields: {
    commandId: z.string(),
    command: commandPosition,
    /** A JSON object of what changed: `title`, `metadata` and `profile` (the agent as the API shows it), each whole, and `metadataPatch` (keys to set, null to delete). */
    changes: json(),
    /** The agent's tools as resolved, a JSON array; null where they stay. */
    tools: json().nullable(),
  },
  example: { commandId: "update-1", command: { partition: 3, offset: 23 }, changes: '{"title":"Order 17"}', tools: null },
})
