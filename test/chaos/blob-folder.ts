import { linkSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"

/** Blobs stand for longer than this before anyone deletes their session. */
const keepEveryMs = 250

/**
 * The folder of blobs that all processes share. It can be taken away from them: their path is a link that leads to it or nowhere, turned in
 * one step. And every blob that ever stood is kept aside, so that what a deleted session did can be judged when its blobs are gone.
 */
export class BlobFolder {
  /** As processes know it. */
  readonly path: string
  /** What nobody takes anything from. */
  readonly kept: string
  readonly #there: string
  readonly #nowhere: string
  readonly #keeping: NodeJS.Timeout

  constructor(dir: string) {
    this.path = join(dir, "blobs")
    this.kept = join(dir, "blobs-kept")
    this.#there = join(dir, "blobs-there")
    this.#nowhere = join(dir, "blobs-nowhere")
    mkdirSync(this.#there)
    writeFileSync(this.#nowhere, "No folder.")
    this.giveBack()
    this.#keeping = setInterval(() => this.#keep(""), keepEveryMs)
  }

  stop(): void {
    clearInterval(this.#keeping)
  }

  /** Where the blobs of a log lie, whoever was told what. */
  of(prefix: string): string {
    return join(this.#there, prefix)
  }

  /** Whoever asks for anything in it is told that it is no folder, which says nothing about any blob. */
  takeAway(): void {
    this.#lead(this.#nowhere)
  }

  giveBack(): void {
    this.#lead(this.#there)
  }

  #lead(to: string): void {
    symlinkSync(to, `${this.path}.new`)
    renameSync(`${this.path}.new`, this.path)
  }

  #keep(folder: string): void {
    mkdirSync(join(this.kept, folder), { recursive: true })
    for (const entry of unlessGone(() => readdirSync(join(this.#there, folder), { withFileTypes: true })) ?? []) {
      const name = join(folder, entry.name)
      if (entry.isDirectory()) this.#keep(name)
      else if (/^[0-9a-f]{64}$/.test(entry.name)) unlessGone(() => linkSync(join(this.#there, name), join(this.kept, name)))
    }
  }
}

/** Others remove meanwhile; and what is kept already is kept. */
function unlessGone<T>(act: () => T): T | undefined {
  try {
    return act()
  } catch (error) {
    if (["ENOENT", "EEXIST"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined
    throw error
  }
}
