export interface Config {
  readonly port: number
  readonly host: string
  readonly latencyMs: number
}

/** 0 is any free port: a fixed default would meet someone else's on many machines. */
export function configFrom(environment: Readonly<Record<string, string | undefined>>): Config {
  return {
    port: wholeNumber(environment, "REINS_PORT", 65_535),
    host: environment["REINS_HOST"] ?? "127.0.0.1",
    latencyMs: wholeNumber(environment, "REINS_MODEL_LATENCY_MS", 600_000),
  }
}

function wholeNumber(environment: Readonly<Record<string, string | undefined>>, name: string, max: number): number {
  const text = environment[name] ?? "0"
  const value = Number(text)
  if (text.trim() === "" || !Number.isInteger(value) || value < 0 || value > max) {
    throw new Error(`${name} must be a whole number from 0 to ${max}, not ${JSON.stringify(text)}.`)
  }
  return value
}
