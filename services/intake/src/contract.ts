import type { Contract } from "@reins/runtime"

export const contract: Contract = {
  reads: ["commands", "sessions", "declarations"],
  says: [
    "session.started",
    "message.received",
    "interrupt.received",
    "approval.given",
    "result.received",
    "session.updated",
    "session.resumed",
    "session.ended",
    "session.archived",
    "session.deleted",
    "command.rejected",
  ],
  buries: ["commands"],
  needsDeclarations: true,
}
