import { randomInt } from "node:crypto"
import { defineTool, type ToolDefinition, ToolError } from "@reins/worker-kit"
import { z } from "zod"

/** `crypto.randomInt` draws from fewer than 2^48 numbers, and takes safe integers only. */
const rangeMax = 2 ** 48 - 1

/** A whole number from `min` to `max`, both included, each as likely as the others. */
export function randomNumber(min: number, max: number): number {
  const refuse = (message: string): never => {
    throw new ToolError(message, { kind: "validation", effect: "none" })
  }
  if (min > max) refuse(`min (${min}) is above max (${max}).`)
  if (max - min + 1 > rangeMax || !Number.isSafeInteger(max + 1))
    refuse(`From ${min} to ${max} are more than the ${rangeMax} numbers to draw from.`)
  return randomInt(min, max + 1)
}

/** `pure`: its result differs from run to run, yet nothing is changed, and the log keeps the one that counts. */
export const random: ToolDefinition = defineTool({
  name: "random_number",
  description: "Draws a random whole number from min to max, both included.",
  input: z.strictObject({ min: z.int(), max: z.int() }),
  effect: "pure",
  timeoutMs: 10_000,
  run: ({ min, max }) => randomNumber(min, max),
})
