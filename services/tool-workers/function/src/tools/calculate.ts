import { defineTool, type ToolDefinition, ToolError } from "@reins/worker-kit"
import { z } from "zod"
import { expressionLengthMax, expressionNestingMax } from "../config.ts"

/**
 * The value of an arithmetic expression, by recursive descent; nothing is ever evaluated as code.
 *
 *     sum     = product (("+" | "-") product)*
 *     product = sign (("*" | "/" | "%") sign)*
 *     sign    = ("-" | "+") sign | power
 *     power   = primary ("^" sign)?          right to left: 2^3^2 is 2^9, -2^2 is -4
 *     primary = number | "(" sum ")"
 */
export function evaluate(expression: string): number {
  let at = 0
  let nesting = 0

  const refuse = (message: string): never => {
    throw new ToolError(message, { kind: "validation", effect: "none" })
  }
  /** The next character that is no white space, or "" at the end. */
  const peek = (): string => {
    while (/\s/.test(expression[at] ?? "")) at++
    return expression[at] ?? ""
  }
  const take = (wanted: string): boolean => {
    if (peek() === "" || !wanted.includes(peek())) return false
    at++
    return true
  }
  const deeper = (part: () => number): number => {
    if (++nesting > expressionNestingMax) refuse(`The expression nests deeper than ${expressionNestingMax}.`)
    const value = part()
    nesting--
    return value
  }

  const sum = (): number => {
    let value = product()
    for (;;) {
      if (take("+")) value += product()
      else if (take("-")) value -= product()
      else return value
    }
  }
  const product = (): number => {
    let value = sign()
    for (;;) {
      const operator = peek()
      if (!take("*/%")) return value
      const right = sign()
      if (operator === "*") value *= right
      else if (right === 0) return refuse("Division by zero.")
      else value = operator === "/" ? value / right : value % right
    }
  }
  const sign = (): number => {
    if (take("-")) return -deeper(sign)
    if (take("+")) return deeper(sign)
    return power()
  }
  const power = (): number => {
    const base = primary()
    return take("^") ? base ** deeper(sign) : base
  }
  const primary = (): number => {
    if (take("(")) {
      const value = deeper(sum)
      if (!take(")")) refuse(`A closing parenthesis is missing at character ${at + 1}.`)
      return value
    }
    const next = peek()
    const number = /^(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?/.exec(expression.slice(at))?.[0]
    if (number === undefined)
      return refuse(
        next === ""
          ? "The expression ends where a number is expected."
          : `A number is expected at character ${at + 1}, not ${JSON.stringify(next)}.`,
      )
    at += number.length
    return Number(number)
  }

  const value = sum()
  if (peek() !== "") refuse(`An operator is expected at character ${at + 1}, not ${JSON.stringify(peek())}.`)
  if (!Number.isFinite(value)) refuse("The result is no finite number.")
  return value
}

export const calculate: ToolDefinition = defineTool({
  name: "calculate",
  description: "Calculates an arithmetic expression with + - * / % ^ and parentheses.",
  input: z.strictObject({ expression: z.string().min(1).max(expressionLengthMax).describe("For example (2 + 3) * 4^2 / 5") }),
  effect: "pure",
  timeoutMs: 10_000,
  run: ({ expression }) => evaluate(expression),
})
