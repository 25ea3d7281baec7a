import { registerHooks } from "node:module"
import { basename, extname, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import type { ToolDefinition } from "./tool.ts"

/** A worker's file cannot be used. */
export class ToolsFileError extends Error {
  readonly code = "tools-file"
  readonly retryable = false
}

/** The backend that a worker's file stands for unless told otherwise: its base name. */
export function backendOfFile(file: string): string {
  return basename(file, extname(file))
}

/** What a worker's file may import wherever it lies. */
const lent = /^(@reins\/worker-kit|zod)(\/|$)/
let lending = false

/**
 * A worker's file lies in its author's folder, where `@reins/worker-kit` and `zod` need not be installed: what cannot be found from
 * there is found from here. What the author has installed comes first.
 */
function lend(): void {
  if (lending) return
  lending = true
  registerHooks({
    resolve: (specifier, context, next) => {
      try {
        return next(specifier, context)
      } catch (error) {
        if (!lent.test(specifier) || (error as { code?: string }).code !== "ERR_MODULE_NOT_FOUND") throw error
        return next(specifier, { ...context, parentURL: import.meta.url })
      }
    },
  })
}

/** Loads the tools that a module exports, by whatever names; also arrays of them and a default export. */
export async function loadTools(file: string): Promise<readonly ToolDefinition[]> {
  lend()
  let module: Record<string, unknown>
  try {
    module = (await import(pathToFileURL(resolve(file)).href)) as Record<string, unknown>
  } catch (error) {
    throw new ToolsFileError(`${file} cannot be loaded: ${(error as Error).message}`, { cause: error })
  }
  const tools = new Set<ToolDefinition>()
  for (const value of Object.values(module).flat()) if (isTool(value)) tools.add(value)
  if (tools.size === 0)
    throw new ToolsFileError(`${file} exports no tool. Export what defineTool({name, description, input, effect, timeoutMs, run}) returns.`)
  return [...tools]
}

function isTool(value: unknown): value is ToolDefinition {
  const tool = value as ToolDefinition | null
  return (
    typeof tool === "object" &&
    tool !== null &&
    typeof tool.name === "string" &&
    typeof tool.run === "function" &&
    typeof tool.inputSchema === "object"
  )
}
