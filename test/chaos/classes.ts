import type { ToolDefinition } from "@reins/worker-kit"
import { ledgerTools } from "../fixtures/ledger-tools.ts"

// A user's worker file, and by its name the backend `classes`: one tool of each effect class.

export type { LedgerLine as EffectLine } from "../fixtures/ledger-tools.ts"

const tools = ledgerTools()

export const look: ToolDefinition = tools.look
export const fix: ToolDefinition = tools.fix
export const note: ToolDefinition = tools.note
export const charge: ToolDefinition = tools.charge
export const ring: ToolDefinition = tools.ring
