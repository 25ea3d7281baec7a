import type { Contract } from "@reins/runtime"

/** It follows all partitions without a group: it owns none, and several stand side by side. */
export const contract: Contract = {
  reads: ["sessions", "deltas", "agents", "keys"],
  says: ["agent.saved", "environment.saved"],
  buries: [],
  needsDeclarations: false,
}
