import { randomBytes } from "node:crypto"
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { Worker } from "node:worker_threads"
import { cacheFolder, distFolder, sourcesHash } from "./places.ts"

/** A file of the console as it goes over the wire. */
export interface ConsoleFile {
  readonly body: Uint8Array
  readonly type: string
  /** Its name follows from its content, so that it may be kept for ever. */
  readonly immutable: boolean
}

/** What the bundler makes: path from the root of the site, content. */
export type Bundle = ReadonlyMap<string, Uint8Array>

/** The console is not here, and cannot be built here. `message` says what to do. */
export class UnbuildableError extends Error {
  readonly code = "console-unbuildable"
  readonly retryable = false
}

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  svg: "image/svg+xml",
}

const needs = "The console could not be built here. It takes the full installation: `npm ci`, with its optional packages."

let files: Promise<ReadonlyMap<string, ConsoleFile>> | undefined

/**
 * The console's files by path: `/index.html`, `/assets/…`. Built ones where there are some (`dist` in an image, else the cache of these
 * very sources), and else they are built now, which takes a second or two; a person needs no build step. Asked again, it answers at once;
 * a build that failed is tried again.
 */
export function consoleFiles(): Promise<ReadonlyMap<string, ConsoleFile>> {
  files ??= load().catch((error: unknown) => {
    files = undefined
    throw error
  })
  return files
}

async function load(): Promise<ReadonlyMap<string, ConsoleFile>> {
  return served((await readBundle(distFolder)) ?? (await cached()))
}

async function cached(): Promise<Bundle> {
  const folder = join(cacheFolder, await sourcesHash())
  const known = await readBundle(folder)
  if (known !== null) return known
  const bundle = await buildApart()
  // The cache is for the next start: where it cannot be written, this one goes on all the same.
  await keep(folder, bundle).catch(() => undefined)
  return bundle
}

/** In a thread of its own: the bundler sets NODE_ENV for its whole process and holds on to its memory, and sessions run in this one. */
function buildApart(): Promise<Bundle> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("build-thread.ts", import.meta.url))
    worker.once("message", resolve)
    worker.once("error", (cause) => reject(new UnbuildableError(needs, { cause })))
    worker.once("exit", (code) => reject(new UnbuildableError(`${needs} The bundler ended with code ${code}.`)))
  })
}

/** Null where there is none. */
async function readBundle(folder: string): Promise<Bundle | null> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true })
    const bundle = new Map<string, Uint8Array>()
    for (const entry of entries) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      bundle.set(path.slice(folder.length).replaceAll("\\", "/"), await readFile(path))
    }
    return bundle.has("/index.html") ? bundle : null
  } catch {
    return null
  }
}

/** Whole or not at all, so that a process that starts at the same time never reads half of it. */
async function keep(folder: string, bundle: Bundle): Promise<void> {
  const beside = `${folder}.${randomBytes(4).toString("hex")}`
  await writeBundle(beside, bundle)
  for (const other of await readdir(cacheFolder)) {
    const path = join(cacheFolder, other)
    if (path !== beside && path !== folder) await rm(path, { recursive: true, force: true })
  }
  await rename(beside, folder)
}

export async function writeBundle(folder: string, bundle: Bundle): Promise<void> {
  for (const [path, body] of bundle) {
    const file = join(folder, path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, body)
  }
}

function served(bundle: Bundle): ReadonlyMap<string, ConsoleFile> {
  return new Map(
    [...bundle].map(([path, body]) => [
      path,
      { body, type: types[path.split(".").at(-1) ?? ""] ?? "application/octet-stream", immutable: path.startsWith("/assets/") },
    ]),
  )
}
