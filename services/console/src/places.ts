import { createHash } from "node:crypto"
import { readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const workspace: string = fileURLToPath(new URL("..", import.meta.url))

export const appFolder: string = join(workspace, "app")
/** Built files that came with the installation, as in an image. */
export const distFolder: string = join(workspace, "dist")
/** Beside the packages, which go together with it: what is there was made by them. */
export const cacheFolder: string = join(workspace, "../../node_modules/.cache/reins-console")

/** Of all that the bundle follows from: the sources, this workspace's own code and the versions of its packages. */
export async function sourcesHash(): Promise<string> {
  const hash = createHash("sha256")
  for (const folder of [appFolder, join(workspace, "src")]) {
    const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
    const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort()
    for (const path of paths)
      hash
        .update(path.slice(workspace.length))
        .update("\0")
        .update(await readFile(path))
        .update("\0")
  }
  hash.update(await readFile(join(workspace, "package.json")))
  return hash.digest("hex").slice(0, 32)
}
