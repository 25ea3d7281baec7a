/** Nothing of use nests deeper. */
export const depthMax = 128

/**
 * Whether a value of JSON nests deeper than this; it looks no further than that. JSON.parse takes any depth, and most of what is done
 * with the result afterwards the depth that the stack has left: without a bound, the same record would mean one thing here and end
 * a process there.
 */
export function isDeeperThan(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false
  return depth === 0 || Object.values(value).some((item) => isDeeperThan(item, depth - 1))
}
