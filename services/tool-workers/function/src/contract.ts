import type { Contract } from "@reins/runtime"
import { workerContract } from "@reins/worker-kit"

export const backend = "function"
export const contract: Contract = workerContract(backend)
