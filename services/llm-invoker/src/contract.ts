import type { Contract } from "@reins/runtime"

export const contract: Contract = {
  reads: ["sessions"],
  says: ["model.requested", "model.responded", "model.failed", "session.idled"],
  buries: [],
  needsDeclarations: false,
}
