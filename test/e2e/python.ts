import { spawnSync } from "node:child_process"
import { mkdirSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import process from "node:process"

/** A Python that has a package, as pip names it with its version, kept between runs; or why there is none. */
export function pythonWith(requirement: string, module: string): { readonly path: string } | { readonly missing: string } {
  const home = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "reins", requirement.replace("==", "-"))
  const path = join(home, "bin", "python")
  if (spawnSync(path, ["-c", `import ${module}`]).status === 0) return { path }
  mkdirSync(home, { recursive: true })
  for (const [file, args] of [
    ["python3", ["-m", "venv", home]],
    [path, ["-m", "pip", "--quiet", "--disable-pip-version-check", "install", requirement]],
  ] as const) {
    const { status, error, stderr } = spawnSync(file, args, { encoding: "utf8" })
    if (status !== 0) return { missing: `${file} ${args.join(" ")}: ${error?.message ?? stderr}` }
  }
  return { path }
}
