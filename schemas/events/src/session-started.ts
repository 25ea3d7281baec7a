import { z } from "zod"
import { agent } from "./agent.ts"
import { sessionFact } from "./define.ts"
import { commandPosition, json } from "./fields.ts"

export const sessionStarted = sessionFact({
  type: "session.started",
  meaning: "A session exists: its agent is resolved, and its first input, if any, waits for the model.",
  saidBy: ["intake"],
  heardBy: ["llm-invoker", "tool-router"],
  fields: {
    commandId: z.string(),
    command: commandPosition,
    agent,
    input: json().nullable(),
    title: z.string().nullish(),
    /** A JSON object of strings. */
    metadata: json().nullish(),
    environmentId: z.string().nullish(),
    /** The agent as the API shows it, a JSON object: the version that this session began with. */
    profile: json().nullish(),
  },
  example: {
    commandId: "any-unique-string",
    command: { partition: 3, offset: 17 },
    agent: {
      name: "support",
      model: "claude-sonnet-5-5",
      system: '"You help."',
      maxTokens: 1024,
      tools: [
        {
          name: "get_order",
          description: "Look an order up",
          backend: "http",
          effect: "pure",
          timeoutMs: 5000,
          inputSchema: '{"type":"object","properties":{"id":{"type":"string"}},"required":["id"]}',
          sideEffects: null,
          settings: '{"method":"GET","url":"http://127.0.0.1:9100/orders/{id}"}',
          claims: true,
          encoding: "avro",
          permission: null,
          onUnknown: null,
          server: null,
        },
      ],
      params: "{}",
      limits: { turns: 50, toolCalls: 200, outputTokens: 200000, wallClockMs: 600000 },
      contextTokens: null,
    },
    input: '[{"type":"text","text":"Where is order 17?"}]',
    title: null,
    metadata: null,
    environmentId: null,
    profile: null,
  },
})
