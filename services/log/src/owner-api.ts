import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/**
 * Where the owner of a data folder takes commands from processes beside it. The token stands in a file that only its user may read, and
 * proves what reading the folder proves anyway: that whoever has it might own the log in the owner's place.
 */
export interface OwnerApi {
  readonly url: string
  readonly token: string
}

const fileName = "owner.api"

/** Says where the owner of this folder, which has to be this process, takes commands. */
export function announceOwnerApi(dir: string, api: OwnerApi): void {
  forgetOwnerApi(dir)
  writeFileSync(join(dir, fileName), JSON.stringify(api), { mode: 0o600, flag: "wx" })
}

/** The next owner begins with it: what one that was killed has left behind leads nowhere. */
export function forgetOwnerApi(dir: string): void {
  rmSync(join(dir, fileName), { force: true })
}

/** Where the owner of this folder takes commands; null where it does not. */
export function readOwnerApi(dir: string): OwnerApi | null {
  try {
    const { url, token } = JSON.parse(readFileSync(join(dir, fileName), "utf8")) as Partial<OwnerApi>
    return typeof url === "string" && typeof token === "string" ? { url, token } : null
  } catch {
    // It is not there, or is being written: a look later finds it.
    return null
  }
}
