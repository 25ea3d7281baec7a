export { contract } from "./contract.ts"
export { intake } from "./service.ts"
