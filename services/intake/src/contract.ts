import type { Contract } from "@reins/runtime"

export const contract: Contract = {
  reads: ["commands", "sessions", "declarations"],
  says: ["session.started", "message.received", "interrupt.received", "session.resumed", "session.ended", "command.rejected"],
  buries: ["commands"],
  needsDeclarations: true,
}
