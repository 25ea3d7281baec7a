import type { IncomingMessage, ServerResponse } from "node:http"
import { type ConsoleFile, consoleFiles } from "@reins/console"
import type { Logger } from "pino"

/** What every file of the console comes with: its own code and nothing else runs, and nobody may put it into a frame. */
const headers: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
}

/** So long a first visitor waits with an empty page; a console that is built already is there sooner. */
const patienceMs = 400

/** Answers `/` and `/assets/*`; false for anything else, which is the API's. */
export function answerConsole(
  request: IncomingMessage,
  response: ServerResponse,
  logger: Logger,
  files: () => Promise<ReadonlyMap<string, ConsoleFile>> = consoleFiles,
): boolean {
  const path = (request.url ?? "").split("?", 1)[0] as string
  if (request.method !== "GET" && request.method !== "HEAD") return false
  if (path !== "/" && !path.startsWith("/assets/")) return false
  void answer(path === "/" ? "/index.html" : path, request, response, files).catch((error: unknown) => {
    logger.error({ err: error }, "The console cannot be served.")
    page(response, 503, "The console is not here", (error as Error).message)
  })
  return true
}

async function answer(
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
  files: () => Promise<ReadonlyMap<string, ConsoleFile>>,
): Promise<void> {
  const building = files()
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), patienceMs)
  })
  const built = path === "/index.html" ? await Promise.race([building, late]) : await building
  clearTimeout(timer)
  if (built === null) {
    // The page asks again by itself; whether the build went well is told then.
    building.catch(() => undefined)
    page(response, 202, "Building the console…", "This is done once after each change of its sources, and takes a few seconds.", {
      refresh: "1",
    })
    return
  }
  const file = built.get(path)
  if (file === undefined) {
    page(response, 404, "Not found", "There is no such file in the console.")
    return
  }
  const caching = file.immutable ? "public, max-age=31536000, immutable" : "no-cache"
  response.writeHead(200, { ...headers, "content-type": file.type, "content-length": file.body.length, "cache-control": caching })
  response.end(request.method === "HEAD" ? undefined : file.body)
}

/** A page without a style: the policy forbids inline ones, and the stylesheet is what may be missing. */
function page(response: ServerResponse, status: number, title: string, text: string, more: Readonly<Record<string, string>> = {}): void {
  if (response.headersSent) return
  const body = `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(title)}</title><h1>${escaped(title)}</h1><p>${escaped(text)}</p></html>\n`
  response.writeHead(status, { ...headers, ...more, "content-type": "text/html; charset=utf-8", "cache-control": "no-store" })
  response.end(body)
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
}
