import type { AgentGiven } from "@reins/events"

// One short session with every effect class on two backends: what all crash points are enumerated over.

/** The tools of the golden session whose effects a ledger knows. */
export const ledgered: ReadonlySet<string> = new Set(["look", "fix", "note", "charge", "ring", "refund"])

export function goldenAgent(ordersUrl: string): Partial<AgentGiven> & { readonly model: string } {
  return {
    name: "golden",
    model: "claude-sonnet-5-5",
    system: "You keep the house.",
    maxTokens: 1024,
    tools: [
      ...["look", "fix", "note", "charge", "ring"].map((name) => ({ name, backend: "classes" })),
      {
        name: "refund",
        description: "Refunds an order.",
        backend: "http",
        effect: "keyed" as const,
        timeoutMs: 60_000,
        sideEffects: "moves money back to the customer",
        inputSchema: {
          type: "object",
          properties: { id: { type: "string" }, cents: { type: "integer", minimum: 1 } },
          required: ["id", "cents"],
        },
        http: { method: "POST", url: `${ordersUrl}/orders/{id}/refund` },
      },
    ],
  }
}

/** All classes in parallel, then one more call, so that what a crash leaves behind is carried into a further turn. */
export function goldenPrompt(sessionId: string): string {
  const parallel = [
    'look {"n":1}',
    'fix {"n":2}',
    'note {"n":3}',
    'charge {"n":4}',
    'ring {"n":5}',
    `refund {"id":"o-${sessionId}","cents":6}`,
  ]
  return `This is ${sessionId}. [[${parallel.map((call) => `call ${call}`).join("; ")}]] [[call note {"n":7}]]`
}
