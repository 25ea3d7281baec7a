import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { LogOwnedError } from "./log.ts"
import { forgetOwnerApi } from "./owner-api.ts"

const sqliteBusy = 5

/** The exclusive right to write into a data folder. */
export interface OwnerLock {
  release(): void
}

/**
 * Takes the folder for this process or throws `LogOwnedError`. The lock is an open transaction on a small SQLite file of its own:
 * the operating system drops it with the process, however that ends, so there is no stale lock to clean up. A lock file with
 * a pid in it would be one; here the pid beside the lock is for the error message only. POSIX drops a lock when its process
 * closes any descriptor of that file, so nothing in this process may open `owner.lock` by other means, not even to copy it.
 */
export function takeOwnership(dir: string): OwnerLock {
  const pidFile = join(dir, "owner.pid")
  const lock = new DatabaseSync(join(dir, "owner.lock"), { timeout: 0 })
  try {
    lock.exec("BEGIN EXCLUSIVE")
  } catch (error) {
    lock.close()
    if (!isBusy(error)) throw error
    throw new LogOwnedError(
      `The log in ${dir} belongs to ${ownerOf(pidFile)}, and a second writer would take the same offsets. Stop that process, or use another folder (REINS_DATA). Commands that only read work beside it.`,
      { cause: error },
    )
  }
  writeFileSync(pidFile, `${process.pid}\n`)
  forgetOwnerApi(dir)
  return {
    release: () => {
      if (!lock.isOpen) return
      forgetOwnerApi(dir)
      lock.close()
    },
  }
}

/** True where another connection holds what we asked for. */
function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number" && (error.errcode & 0xff) === sqliteBusy
}

function ownerOf(pidFile: string): string {
  try {
    return `process ${readFileSync(pidFile, "utf8").trim()}`
  } catch {
    return "another process"
  }
}
