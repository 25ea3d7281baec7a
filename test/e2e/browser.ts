import { existsSync } from "node:fs"
import { delimiter, join } from "node:path"
import process from "node:process"
import { type Browser, chromium } from "playwright-core"

const names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]

/** The Chromium of this machine; null where there is none. REINS_CHROMIUM names another. */
export function browserPath(): string | null {
  const given = process.env["REINS_CHROMIUM"]
  if (given !== undefined && given !== "") return given
  const folders = (process.env["PATH"] ?? "").split(delimiter)
  return folders.flatMap((folder) => names.map((name) => join(folder, name))).find((path) => existsSync(path)) ?? null
}

export function openBrowser(path: string): Promise<Browser> {
  // Chromium refuses its sandbox to root, which is who runs in a container.
  const root = process.getuid?.() === 0
  return chromium.launch({ executablePath: path, chromiumSandbox: !root, args: ["--disable-gpu"] })
}
