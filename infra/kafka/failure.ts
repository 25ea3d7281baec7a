import { existsSync, readFileSync } from "node:fs"

export class LocalKafkaError extends Error {
  readonly code: "kafka-not-available" | "kafka-did-not-start" | "kafka-port-taken"
  constructor(code: LocalKafkaError["code"], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** What went wrong, with the end of the log of the process that it went wrong in. */
export function didNotStart(sentence: string, logFile: string, cause?: unknown): LocalKafkaError {
  const log = existsSync(logFile) ? readFileSync(logFile, "utf8") : ""
  const portTaken = /BindException|Address already in use|Port \d+ seems to be in use/.test(log)
  const message = `${sentence} The end of ${logFile}:\n${log.slice(-3_000)}`
  return new LocalKafkaError(portTaken ? "kafka-port-taken" : "kafka-did-not-start", message, { cause })
}
