import { readFileSync } from "node:fs"
import { registerHooks } from "node:module"
import { fileURLToPath } from "node:url"

/** One bug, as an exact replacement in one source file of the product. */
export interface Patch {
  /** From the root of the repository. */
  readonly file: string
  readonly find: string
  readonly replace: string
}

const root = new URL("../../", import.meta.url)

/** The text with the bug in it. Throws where the text to replace does not stand there exactly once: the product has moved on. */
export function mutated(text: string, { file, find, replace }: Patch): string {
  const count = text.split(find).length - 1
  if (count !== 1) throw new Error(`${file} has ${count} times what a mutant replaces: ${find}`)
  return text.replace(find, () => replace)
}

export function sourceOf(patch: Patch): string {
  return readFileSync(fileURLToPath(new URL(patch.file, root)), "utf8")
}

/** From now on these files are loaded with their bugs. To be called before anything of the product is. */
export function mutate(patches: readonly Patch[]): void {
  const texts = new Map<string, string>()
  for (const patch of patches) {
    const { href } = new URL(patch.file, root)
    texts.set(href, mutated(texts.get(href) ?? sourceOf(patch), patch))
  }
  registerHooks({
    load: (url, context, next) => {
      const text = texts.get(url)
      return text === undefined ? next(url, context) : { format: "module-typescript", source: text, shortCircuit: true }
    },
  })
}
