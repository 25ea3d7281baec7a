import { z } from "zod"
import { count, json } from "./fields.ts"

const schema = z.object({
  sessionId: z.string().min(1),
  /** The version of the fold that made the state; a snapshot of another version is ignored. */
  foldVersion: z.string(),
  /** Every record of `sessions` in this partition up to this offset is in the state. */
  offset: count(),
  /** Offset of the first record of the session in `sessions`. */
  first: count(),
  /** Offset of the newest of its records that a deletion erases; -1: there is none. */
  newest: z.int().min(-1),
  /** Up to this offset every record of the session is erased; -1: none is. */
  erasedTo: z.int().min(-1),
  /** `running`, `idle`, `ended`, `parked`, `deleted` or `absent` (only rejected commands): who looks for some need not read all states. */
  status: z.string(),
  /** The folded state; contents of the conversation are referred to by the offsets of the records that hold them. */
  state: json(),
})

/** A session as it is folded, on `snapshots`: saves reading what it follows from, and is never needed. */
export const sessionSnapshot = {
  type: "session.snapshot" as const,
  family: "snapshots" as const,
  recordName: "reins.snapshots.SessionSnapshot",
  meaning:
    "The folded state of a session and how far it was folded. Never part of the truth: it saves reading the log, and a reader may ignore it.",
  saidBy: ["intake", "eraser"],
  heardBy: ["intake", "llm-invoker", "tool-router", "eraser"],
  schema,
  example: {
    type: "session.snapshot" as const,
    sessionId: "sesn_my1",
    foldVersion: "5f0c6a1e9b7d",
    offset: 4711,
    first: 4002,
    newest: 4690,
    erasedTo: -1,
    status: "idle",
    state: '{"session":{"phase":"idle"},"records":[4002,1,3]}',
  },
}
export type SessionSnapshot = z.infer<typeof schema> & { readonly type: "session.snapshot" }
