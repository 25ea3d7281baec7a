export { backendOfFile, loadTools, ToolsFileError } from "./load-tools.ts"
export { defineTool, type Reconciled, type Runnable, ToolAnswer, type ToolContext, type ToolDefinition, ToolError } from "./tool.ts"
export { type Backend, toolsBackend, worker, workerContract } from "./worker.ts"
export type { Run } from "./decide.ts"
