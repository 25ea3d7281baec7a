import { defineTool, type ToolDefinition } from "@reins/worker-kit"
import { z } from "zod"
import { ledgerTools } from "../fixtures/ledger-tools.ts"
import { canaryOf, longText } from "./traits.ts"

// A user's worker file, and by its name the backend `classes`: one tool of each effect class, and one whose results are as long as asked for.

export type { LedgerLine as EffectLine } from "../fixtures/ledger-tools.ts"

const tools = ledgerTools()

export const look: ToolDefinition = tools.look
export const fix: ToolDefinition = tools.fix
export const note: ToolDefinition = tools.note
export const charge: ToolDefinition = tools.charge
export const ring: ToolDefinition = tools.ring
export const page: ToolDefinition = defineTool({
  name: "page",
  description: "Reads page n, which has so many characters.",
  input: z.strictObject({ n: z.int(), size: z.int().min(1).max(1_000_000) }),
  effect: "pure",
  run: ({ n, size }, { sessionId }) => longText(`Page ${n}, as ${canaryOf(sessionId)} sees it:`, size),
})
