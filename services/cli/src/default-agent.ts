import { readFile } from "node:fs/promises"
import type { AgentGiven } from "@reins/events"
import { parse } from "yaml"
import { CliError } from "./fail.ts"

/** The agent of `reins run` without a file: the built-in tools. */
export function defaultAgent(model: string): AgentGiven {
  return {
    name: "default",
    model,
    system:
      "You are a helpful assistant. Use the tools you are given where they help, several at once where they do not depend on each other.",
    maxTokens: 4096,
    tools: ["add", "calculate", "current_time", "random_number", "wait", "echo"].map((name) => ({ name, backend: "function" })),
    toolsets: [],
    params: {},
    limits: {},
  }
}

/** The agent in a JSON or YAML file, as it is: intake says what is wrong with it. */
export async function readAgent(file: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(file, "utf8")
  } catch (error) {
    throw new CliError(2, `The agent's file cannot be read: ${(error as Error).message}.`)
  }
  try {
    // YAML holds JSON.
    return parse(text) as unknown
  } catch (error) {
    throw new CliError(2, `${file} is neither JSON nor YAML: ${(error as Error).message}.`)
  }
}
