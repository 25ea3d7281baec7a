export { contract } from "./contract.ts"
export { httpWorker } from "./service.ts"
