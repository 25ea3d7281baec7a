import { exitCodeOf } from "@reins/runtime"

/** Exit codes: 0 done, 1 failed, 2 bad usage, 3 not found, 4 waits for a person, 5 cannot reach log or model, 6 check failed, 7 timed out, 130 interrupted. */
export class CliError extends Error {
  readonly exitCode: number

  constructor(exitCode: number, message: string) {
    super(message)
    this.exitCode = exitCode
  }
}

/** Says what happened on stderr and sets the exit code. A stack is for those who ask for it with -v. */
export function fail(error: unknown, verbose: boolean): void {
  const { message, stack } = error as Error
  process.stderr.write(`reins: ${verbose ? (stack ?? message) : message}\n`)
  process.exitCode = error instanceof CliError ? error.exitCode : exitCodeOf(error)
}
