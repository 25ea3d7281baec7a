import type { Contract } from "@reins/runtime"

export const contract: Contract = {
  reads: ["sessions", "snapshots", "tools", "declarations"],
  says: [
    "tool-call.refused",
    "tool-call.held",
    "tool-call.dispatched",
    "tool-call.completed",
    "tool-call.failed",
    "tool-call.timed-out",
    "tool-call.outcome-unknown",
    "tool-call.cancelled",
    "session.parked",
  ],
  buries: ["sessions", "tools"],
  needsDeclarations: true,
}
