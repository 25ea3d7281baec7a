import { createHash } from "node:crypto"
import type { IncomingHttpHeaders } from "node:http"
import { isLoopback } from "@reins/runtime"
import type { Directory } from "../directory/directory.ts"
import { ApiError, invalid } from "./errors.ts"

/** `keys`: a key that stands in the log. `open`: anyone who can reach the address, which has to be loopback then. */
export type Access = "open" | "keys"

export interface Caller {
  readonly tenant: string
  /** Which key it is, never the key. */
  readonly credential: string
}

/** Who asks: the tenant follows from the credential and from nothing else. */
export async function authenticate(headers: IncomingHttpHeaders, access: Access, directory: Directory): Promise<Caller> {
  const bearer = /^Bearer +(\S+)\s*$/i.exec(headers.authorization ?? "")?.[1]
  const given = headers["x-api-key"]
  const key = Array.isArray(given) ? given[0] : given
  if (bearer !== undefined && key !== undefined && bearer !== key)
    throw invalid("Both authorization and x-api-key are given, and they differ. Send one of them.")
  const secret = bearer ?? key
  // Hashed before it is looked up: how long that takes then tells nothing about the key.
  const hash = secret === undefined ? null : createHash("sha256").update(secret).digest("hex")
  if (access === "open" && !isLoopback(hostnameOf(headers.host)))
    throw new ApiError(
      403,
      "permission_error",
      "Without keys this gateway answers to localhost alone. Call it so, or set REINS_API_AUTH=keys.",
    )
  if (access === "open") return { tenant: "default", credential: hash ?? "none" }
  if (headers.authorization !== undefined && bearer === undefined) throw unauthenticated("authorization: must be `Bearer <key>`.")
  const found = hash === null ? null : await directory.key(hash)
  if (found === null) throw unauthenticated("A valid API key is needed. `reins keys create` makes one.")
  return { tenant: found.tenant, credential: found.id }
}

/**
 * The name under which a client calls. A page that a browser has loaded from elsewhere, and whose name has been made to point here since,
 * gives its own: it must not reach what asks for no key.
 */
function hostnameOf(host: string | undefined): string {
  return /^\[?(.*?)\]?(?::\d+)?$/.exec(host ?? "localhost")?.[1]?.toLowerCase() ?? ""
}

function unauthenticated(message: string): ApiError {
  return new ApiError(401, "authentication_error", message)
}
