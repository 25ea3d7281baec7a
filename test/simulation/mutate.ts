import { readdirSync, readFileSync } from "node:fs"
import { registerHooks } from "node:module"

/** One bug, as an exact replacement of source text of the product. */
export interface Patch {
  /** From the root of the repository. The text stands in exactly one of its files, whichever that is today. */
  readonly folder: string
  readonly find: string
  readonly replace: string
}

const root = new URL("../../", import.meta.url)

/** The sources of the product with these bugs in them, by URL. Throws where what is to be replaced is not there once: the product has moved on. */
export function mutated(patches: readonly Patch[]): ReadonlyMap<string, string> {
  const texts = new Map<string, string>()
  for (const { folder, find, replace } of patches) {
    const base = new URL(`${folder}/`, root)
    const found = readdirSync(base)
      .filter((file) => file.endsWith(".ts"))
      .map((file) => new URL(file, base))
      .flatMap((url) => {
        const text = texts.get(url.href) ?? readFileSync(url, "utf8")
        return Array.from({ length: text.split(find).length - 1 }, () => ({ url, text }))
      })
    const [only] = found
    if (only === undefined || found.length > 1) throw new Error(`${folder} has ${found.length} times what a mutant replaces: ${find}`)
    texts.set(
      only.url.href,
      only.text.replace(find, () => replace),
    )
  }
  return texts
}

/** From now on these sources are loaded with their bugs. To be called before anything of the product is. */
export function mutate(patches: readonly Patch[]): void {
  const texts = mutated(patches)
  registerHooks({
    load: (url, context, next) => {
      const text = texts.get(url)
      return text === undefined ? next(url, context) : { format: "module-typescript", source: text, shortCircuit: true }
    },
  })
}
