export { defaultRouterLimits, type RouterLimits } from "./config.ts"
export { contract } from "./contract.ts"
export { toolRouter } from "./service.ts"
export { argumentsFault } from "./validate-arguments.ts"
