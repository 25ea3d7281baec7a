import { z } from "zod"

/** The outside of every record: who said it, about which session, when and because of what. Stamped by the runtime, never by a decision. */
export const envelope = {
  /** The logical id, stable over append retries. */
  eventId: z.string().min(1),
  sessionId: z.string().min(1),
  tenant: z.string(),
  /** The speaker's clock, milliseconds since the epoch. For people; order and timers use the log's own timestamp. */
  at: z.int().meta({ content: "timestamp-millis" }),
  /** service@instance. */
  by: z.string(),
  /** The eventId of the record that this one follows from. */
  causedBy: z.string().nullable(),
  /** W3C Trace Context. */
  traceparent: z.string().nullable(),
}

export type Envelope = {
  eventId: string
  sessionId: string
  tenant: string
  at: number
  by: string
  causedBy: string | null
  traceparent: string | null
}
