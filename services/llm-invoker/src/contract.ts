import type { Contract } from "@reins/runtime"

export const contract: Contract = {
  reads: ["sessions", "snapshots"],
  says: ["model.requested", "model.responded", "model.failed", "context.compacted", "model.previewed", "session.idled", "session.parked"],
  buries: [],
  needsDeclarations: false,
}
