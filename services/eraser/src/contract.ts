import type { Contract } from "@reins/runtime"

/** It says no facts: it publishes `session.delete` as any client may, appends tombstones, which say nothing, and replaces the snapshot of what is erased. */
export const contract: Contract = {
  reads: ["sessions", "snapshots"],
  says: ["session.snapshot"],
  buries: [],
  needsDeclarations: false,
  erases: true,
}
