export { contract } from "./contract.ts"
export { functionWorker } from "./service.ts"
