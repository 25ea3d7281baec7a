import type { Contract } from "@reins/runtime"

/** It says no facts: it publishes `session.delete` as any client may, and appends tombstones, which say nothing. */
export const contract: Contract = { reads: ["sessions", "snapshots"], says: [], buries: [], needsDeclarations: false, erases: true }
