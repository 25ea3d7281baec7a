import { z } from "zod"
import { sessionFact } from "./define.ts"

export const sessionParked = sessionFact({
  type: "session.parked",
  meaning: "A record broke an invariant of this session; it waits for a person (session.resume or session.end). Its partition goes on.",
  saidBy: ["tool-router", "llm-invoker"],
  heardBy: ["llm-invoker", "cli"],
  fields: { code: z.string(), message: z.string() },
  example: { code: "unreadable_response", message: "The content of model.responded evt_03 is not a JSON array." },
})
