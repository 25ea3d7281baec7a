import { appendFileSync } from "node:fs"
import process from "node:process"
import { setTimeout as sleep } from "node:timers/promises"
import { defineTool, type ToolContext, type ToolDefinition, ToolError } from "@reins/worker-kit"
import { z } from "zod"

// The backend `orders` of the story, as a user's worker file: `reins dev --worker test/sdk/orders.ts`. What it does to the world is one line
// each in the file that ORDERS_LEDGER names.

export interface OrdersLine {
  readonly tool: string
  readonly key: string
  readonly input: unknown
}

function effect(tool: string, input: unknown, { idempotencyKey: key }: ToolContext): void {
  const file = process.env["ORDERS_LEDGER"]
  // O_APPEND and one write: lines of several processes never mix.
  if (file !== undefined) appendFileSync(file, `${JSON.stringify({ tool, key, input } satisfies OrdersLine)}\n`, { flag: "a" })
}

export const getOrder: ToolDefinition = defineTool({
  name: "get_order",
  description: "Looks an order up.",
  input: z.strictObject({ id: z.string() }),
  effect: "pure",
  timeoutMs: 30_000,
  run: ({ id }) => ({ id, cents: 4200, status: "shipped" }),
})

export const refund: ToolDefinition = defineTool({
  name: "refund",
  description: "Refunds an order.",
  input: z.strictObject({ id: z.string(), cents: z.int().min(1) }),
  effect: "unsafe",
  sideEffects: "moves money back to the customer",
  timeoutMs: 30_000,
  run: (input, context) => {
    effect("refund", input, context)
    return { refunded: input.cents, order: input.id }
  },
})

export const countStock: ToolDefinition = defineTool({
  name: "count_stock",
  description: "Counts what is in stock, which takes its time.",
  input: z.strictObject({ ms: z.int().min(0).max(60_000) }),
  effect: "pure",
  timeoutMs: 90_000,
  run: async ({ ms }, { signal }) => {
    await sleep(ms, undefined, { signal })
    return { counted: 17 }
  },
})

export const cancelOrder: ToolDefinition = defineTool({
  name: "cancel_order",
  description: "Cancels an order; refuses what has been shipped.",
  input: z.strictObject({ id: z.string() }),
  effect: "unsafe",
  sideEffects: "stops an order",
  timeoutMs: 30_000,
  run: ({ id }) => {
    throw new ToolError(`Order ${id} has been shipped.`, { kind: "backend_error", effect: "none" })
  },
})
