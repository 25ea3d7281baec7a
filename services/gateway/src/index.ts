export { contract } from "./contract.ts"
export { type Gateway, type GatewayOptions, startGateway } from "./gateway.ts"
export type { Access } from "./http/auth.ts"
