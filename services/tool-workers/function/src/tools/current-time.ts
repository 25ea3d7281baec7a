import { defineTool, type ToolDefinition, ToolError } from "@reins/worker-kit"
import { z } from "zod"

/** What a person and a program would want to know of this instant in this zone. */
export function timeIn(timezone: string, now: Date): { iso: string; timezone: string; local: string; offset: string; weekday: string } {
  let format: Intl.DateTimeFormat
  try {
    format = new Intl.DateTimeFormat("en-GB", {
      timeZone: timezone,
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      weekday: "long",
      timeZoneName: "longOffset",
    })
  } catch (error) {
    throw new ToolError(`There is no time zone ${JSON.stringify(timezone)}. Use an IANA name such as Europe/Berlin, or UTC.`, {
      kind: "validation",
      effect: "none",
      cause: error,
    })
  }
  const part = Object.fromEntries(format.formatToParts(now).map(({ type, value }) => [type, value])) as Record<string, string>
  const { year, month, day, hour, minute, second, weekday = "", timeZoneName = "" } = part
  const offset = timeZoneName.replace("GMT", "")
  return {
    iso: now.toISOString(),
    timezone,
    local: `${year}-${month}-${day}T${hour}:${minute}:${second}`,
    offset: offset === "" ? "+00:00" : offset,
    weekday,
  }
}

export const currentTime: ToolDefinition = defineTool({
  name: "current_time",
  description: "Tells the current date and time, in UTC or in a time zone.",
  input: z.strictObject({
    timezone: z.string().min(1).max(100).describe("IANA name, for example Europe/Berlin; UTC unless given.").optional(),
  }),
  effect: "pure",
  timeoutMs: 10_000,
  run: ({ timezone }) => timeIn(timezone ?? "UTC", new Date()),
})
