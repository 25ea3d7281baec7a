import { createHash } from "node:crypto"
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

const mineSuffix = ".member"
const goneSuffix = ".gone"
/** Of those known to be gone so many are remembered. Who is forgotten is found gone by absence, as from any other machine. */
const goneMax = 100
/** A file of another boot is of no use to us. It may be to another machine that shares the folder. */
const foreignAgeMaxMs = 30 * 24 * 3_600_000
/** After so long the session of the dead has timed out by itself, and nobody need leave for it: its group may have no successor. */
const unburiedAgeMaxMs = 3_600_000
const lookAgainMs = 250
const lockWaitMs = 1000

/**
 * File systems whose locks are this kernel's own, by the number that `statfs` gives them: ext, xfs, btrfs, tmpfs, overlay, zfs, f2fs,
 * bcachefs. On a network file system a lock can be lost while its holder lives.
 */
const localFileSystems: ReadonlySet<number> = new Set([
  0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630, 0x2fc12fc1, 0xf2f52010, 0xca451a4e,
])

/** What a member writes of itself. */
interface Said {
  readonly instance: string
  readonly pid: number
  /** When the process began, in the kernel's ticks since boot: a pid is used again, both together are not. */
  readonly startedAt: string
  readonly pidNamespace: string
}

/** The folder cannot be used. `message` says why. */
export class PresenceError extends Error {
  readonly code = "presence"
}

/** A member's own entry. */
export interface Entry {
  /** Takes the entry away: this member has left in peace, and nobody need know more. */
  release(): void
}

/**
 * Which members of groups this machine has, and which of them are gone. A broker finds out that a process is dead when its session
 * times out; the kernel that ran it knows at once. Every member locks a small file of its own, which names its instance, and the kernel
 * drops that lock with the process, however it ends.
 *
 * N1 Gone is said only of a process of this boot of this kernel that held its lock on a local file system and holds it no longer. A
 *    process that is stopped, that hangs, or that is still dying holds it.
 * N2 Where the pid can be judged too (same pid namespace), a process that still stands under the same pid and start time vetoes:
 *    POSIX drops a lock also when its own process opens and closes the file by other means.
 * N3 A file that is missing, unreadable or odd means "not known", never "gone". Looking creates nothing.
 * N4 Who is gone stays gone: an instance is unique for every start of a process.
 */
export class Presence {
  readonly #dir: string
  readonly #boot: string
  readonly #self: Omit<Said, "instance">
  /** Held by this very process: never looked at, for closing a file may drop the lock on it. */
  readonly #held = new Set<string>()
  readonly #gone = new Set<string>()
  readonly #lookedAt = new Map<string, number>()

  private constructor(dir: string, boot: string, self: Omit<Said, "instance">) {
    this.#dir = dir
    this.#boot = boot
    this.#self = self
  }

  /**
   * Opens the folder of this user inside `stateDir`, or throws `PresenceError`. Whoever can write there can have members put out of their
   * groups, so it must be ours alone.
   */
  static open(stateDir: string): Presence {
    const startedAt = startOf("self")
    let boot: string
    let pidNamespace: string
    try {
      boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim().replaceAll("-", "")
      pidNamespace = readlinkSync("/proc/self/ns/pid")
    } catch (error) {
      throw new PresenceError("This system does not say which boot it is (Linux does).", { cause: error })
    }
    const uid = process.getuid?.()
    if (uid === undefined || startedAt === null || !/^[0-9a-f]{32}$/.test(boot))
      throw new PresenceError("This system does not say who its processes are (Linux does).")
    const dir = join(stateDir, `reins-members-${uid}`)
    try {
      // Not recursively: below /proc, Node then tries for ever.
      for (const path of [stateDir, dir]) if (!existsSync(path)) makeFolder(path)
      const found = lstatSync(dir)
      if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o077) !== 0)
        throw new PresenceError(`${dir} must be a folder that belongs to user ${uid} and to nobody else (mode 0700).`)
      if (!localFileSystems.has(statfsSync(dir).type))
        throw new PresenceError(`${dir} is not on a file system whose locks this machine keeps itself.`)
    } catch (error) {
      if (error instanceof PresenceError) throw error
      throw new PresenceError(`${dir} cannot be used: ${(error as Error).message}.`, { cause: error })
    }
    return new Presence(dir, boot, { pid: process.pid, startedAt, pidNamespace })
  }

  /** Makes our entry, before we join: a member that the broker knows must not be one without a file. Null where that is not possible. */
  enter(group: string, instance: string): Entry | null {
    this.#prune()
    const path = this.#path(group, instance)
    let db: DatabaseSync | undefined
    try {
      db = new DatabaseSync(path, { timeout: lockWaitMs })
      // The lock of the first write stays until the file is closed. No journal: a file that is torn says nothing (N3).
      db.exec("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; BEGIN EXCLUSIVE")
      db.exec("CREATE TABLE IF NOT EXISTS member (said TEXT NOT NULL) STRICT; DELETE FROM member")
      db.prepare("INSERT INTO member (said) VALUES (?)").run(JSON.stringify({ instance, ...this.#self } satisfies Said))
      db.exec("COMMIT")
    } catch {
      db?.close()
      return null
    }
    const held = db
    this.#held.add(path)
    return {
      release: () => {
        if (!held.isOpen) return
        try {
          // Emptied first: who has opened the file before it goes shall read that nobody is gone.
          held.exec("DELETE FROM member")
          rmSync(path, { force: true })
        } finally {
          held.close()
          this.#held.delete(path)
        }
      },
    }
  }

  /** The instances of a group that are gone and may still be members of it, as far as anyone knows. */
  unburied(group: string): readonly string[] {
    const found: string[] = []
    for (const name of this.#names()) {
      if (!name.startsWith(this.#prefix(group)) || !name.endsWith(mineSuffix)) continue
      const said = this.#readIfGone(join(this.#dir, name))
      if (said !== null) found.push(said.instance)
    }
    return found
  }

  /** Notes that an instance that is gone is no member of its group any more. */
  bury(group: string, instance: string): void {
    const path = this.#path(group, instance)
    try {
      renameSync(path, asGone(path))
    } catch {
      // Another one was quicker, or the folder is gone: it is asked for again at worst.
    }
  }

  /** Whether the process of this instance is known to have ended. */
  isGone(group: string, instance: string): boolean {
    const path = this.#path(group, instance)
    if (this.#gone.has(path)) return true
    const now = performance.now()
    if (now - (this.#lookedAt.get(path) ?? Number.NEGATIVE_INFINITY) < lookAgainMs) return false
    const isGone = existsSync(asGone(path)) || this.#readIfGone(path)?.instance === instance
    if (isGone) {
      this.#gone.add(path)
      this.#lookedAt.delete(path)
    } else {
      if (this.#lookedAt.size >= 10_000) this.#lookedAt.clear()
      this.#lookedAt.set(path, now)
    }
    return isGone
  }

  /** What stands in a file whose writer is gone; null where it lives or nobody knows. */
  #readIfGone(path: string): Said | null {
    if (this.#held.has(path)) return null
    let db: DatabaseSync | undefined
    let said: Partial<Said>
    try {
      // Read only, so that looking cannot create the file that it then finds unlocked.
      db = new DatabaseSync(path, { readOnly: true, timeout: 0 })
      said = JSON.parse(String(db.prepare("SELECT said FROM member").get()?.["said"])) as Partial<Said>
    } catch {
      return null
    } finally {
      db?.close()
    }
    const { instance, pid, startedAt, pidNamespace } = said
    if (typeof instance !== "string" || typeof pid !== "number" || typeof startedAt !== "string" || typeof pidNamespace !== "string")
      return null
    if (pidNamespace === this.#self.pidNamespace && startOf(pid) === startedAt) return null
    return { instance, pid, startedAt, pidNamespace }
  }

  #prefix(group: string): string {
    return `${this.#boot}-${digest(group)}-`
  }

  #path(group: string, instance: string): string {
    return join(this.#dir, `${this.#prefix(group)}${digest(instance)}${mineSuffix}`)
  }

  #names(): readonly string[] {
    try {
      return readdirSync(this.#dir)
    } catch {
      return []
    }
  }

  #prune(): void {
    const gone: { path: string; at: number }[] = []
    for (const name of this.#names()) {
      const path = join(this.#dir, name)
      try {
        const at = statSync(path).mtimeMs
        if (!name.startsWith(this.#boot)) {
          if (Date.now() - at > foreignAgeMaxMs) rmSync(path, { force: true })
        } else if (name.endsWith(goneSuffix)) gone.push({ path, at })
        else if (Date.now() - at > unburiedAgeMaxMs && this.#readIfGone(path) !== null) renameSync(path, asGone(path))
      } catch {
        // Somebody else tidies up too.
      }
    }
    gone.sort((a, b) => b.at - a.at)
    for (const { path } of gone.slice(goneMax)) rmSync(path, { force: true })
  }
}

function asGone(path: string): string {
  return path.slice(0, -mineSuffix.length) + goneSuffix
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    // Another process was quicker.
    if ((error as { code?: unknown }).code !== "EEXIST") throw error
  }
}

/** When a process began; null where there is none, or only what its parent has not yet taken notice of. */
function startOf(pid: number | "self"): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    // The second field is the name of the program in brackets, in which anything may stand.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null)
  } catch {
    return null
  }
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 20)
}
