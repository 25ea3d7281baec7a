export { type Collected, collectBlobs } from "./collect.ts"
export { defaultEraserLimits, type EraserLimits } from "./config.ts"
export { contract } from "./contract.ts"
export { type EraserOptions, eraser, eraserOf } from "./service.ts"
