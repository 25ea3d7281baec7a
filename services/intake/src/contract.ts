import type { Contract } from "@reins/runtime"

export const contract: Contract = {
  reads: ["commands", "sessions", "snapshots", "declarations"],
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
    "session.snapshot",
  ],
  buries: ["commands"],
  needsDeclarations: true,
  keepsSnapshots: true,
}
