import { build } from "vite"
import type { Bundle } from "./console-files.ts"
import { appFolder } from "./places.ts"

/** Compiles the console with Vite: JSX, one script, one stylesheet. Nothing is inlined, because the page's policy forbids inline code. */
export async function bundle(): Promise<Bundle> {
  const built = await build({
    root: appFolder,
    configFile: false,
    envFile: false,
    publicDir: false,
    logLevel: "error",
    oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
    build: { write: false, assetsInlineLimit: 0, modulePreload: { polyfill: false }, reportCompressedSize: false, target: "es2022" },
  })
  if (Array.isArray(built) || !("output" in built)) throw new TypeError("Vite answered with something else than one bundle.")
  return new Map(built.output.map((file) => [`/${file.fileName}`, Buffer.from(file.type === "chunk" ? file.code : file.source)] as const))
}
